// The page: settings, descents, drawing, and event listeners.

const PAGE_DATA = JSON.parse(document.getElementById("data").textContent);
const TRAIN = readPolynomials(PAGE_DATA.train.polynomials);
const TEST = PAGE_DATA.test && readPolynomials(PAGE_DATA.test.polynomials);
const BOX = PAGE_DATA.box;
const GRID = computeGrid(TRAIN, BOX);
const LOSS_AT_ORIGIN = lossAt(TRAIN, 0, 0);
const MAX_DESCENTS = 12;
const MAX_STEPS = 20000;
// A descent is at rest if its step, and its gradient in units of the loss at (0, 0), are at most this.
const REST_TOL = 1e-10;
const DEFAULTS = { optimizer: "gd", rate: 0.05, momentum: 0.9, speed: 20 };

const element = (id) => document.getElementById(id);
const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
const panels = Object.fromEntries(
  ["contour", "surface", "loss", "fit"].map((name) => [name, makePanel(name)]),
);
const state = {
  descents: [],
  started: 0,
  cursor: [BOX.w1, BOX.w2].map(([low, high]) => low + (high - low) / 3),
  paused: false,
  scale: { log: GRID.highest > 50 * GRID.lowest, lowest: lowestDrawnLoss() },
  lossAxes: { steps: 0, range: [0, 0] },
};

/** The lowest loss that a log scale shows: the surface's lowest, or a small one if that is 0. */
function lowestDrawnLoss() {
  return Math.max(GRID.lowest, 1e-9 * GRID.highest) || 1;
}

/** The scale of the loss chart: the loss of a descent may be far below that of the grid. */
function chartScale() {
  return { log: state.scale.log, lowest: 1e-20 * GRID.highest || 1 };
}

// Controls

function settings() {
  return {
    optimizer: element("optimizer").value,
    rate: Number((10 ** element("rate").valueAsNumber).toPrecision(2)),
    momentum: element("momentum").valueAsNumber,
  };
}

function speed() {
  return Math.round(10 ** element("speed").valueAsNumber);
}

function showSettings() {
  const { optimizer, rate, momentum } = settings();
  const label = OPTIMIZERS[optimizer].momentum;
  element("rate-value").textContent = formatNumber(rate, 2);
  element("momentum-value").textContent = label ? momentum.toFixed(2) : "not used";
  element("momentum-label").textContent = label ?? "Momentum β";
  element("momentum").disabled = !label;
  element("momentum").parentElement.classList.toggle("off", !label);
  element("speed-value").textContent = speed();
  element("rate").setAttribute("aria-valuetext", formatNumber(rate, 2));
  element("speed").setAttribute("aria-valuetext", `${speed()} steps per second`);
}

function setDefaults() {
  element("optimizer").value = DEFAULTS.optimizer;
  element("rate").value = Math.log10(DEFAULTS.rate);
  element("momentum").value = DEFAULTS.momentum;
  element("speed").value = Math.log10(DEFAULTS.speed);
  showSettings();
}

function announce(message) {
  element("status").textContent = message;
}

function describePoint(w1, w2) {
  return `w1 ${formatNumber(w1, 4)}, w2 ${formatNumber(w2, 4)}, loss ${formatNumber(lossAt(TRAIN, w1, w2))}`;
}

// Descents

function styleOf(index) {
  const count = PAGE_DATA.colors.length;
  return {
    index,
    color: PAGE_DATA.colors[index % count],
    shape: SHAPES[(index + Math.floor(index / count)) % SHAPES.length],
  };
}

function descentName(descent) {
  const { optimizer, rate, momentum } = descent.settings;
  const { name, momentum: used } = OPTIMIZERS[optimizer];
  return `${descent.number}. ${name}, rate ${formatNumber(rate, 2)}${used ? `, β ${momentum}` : ""}`;
}

function start(w1, w2) {
  moveCursor(w1, w2);
  if (state.descents.length >= MAX_DESCENTS) {
    announce(`There are ${MAX_DESCENTS} descents already. Clear them to start another.`);
    return;
  }
  const descent = newDescent(TRAIN, settings(), [w1, w2]);
  descent.style = styleOf(state.descents.length);
  descent.number = ++state.started;
  descent.test = TEST && [lossAt(TEST, w1, w2)];
  descent.state = "running";
  state.descents.push(descent);
  addToList(descent);
  const waiting = state.paused ? " Paused: press Run or Step." : "";
  announce(`Descent ${descentName(descent)}: starts at ${describePoint(w1, w2)}.${waiting}`);
  const traces = surfaceTraces(descent, GRID, state.scale, BOX);
  Plotly.addTraces(panels.surface.plot, traces);
  paint();
}

/** Advance a descent by one step; end it if it diverged, is at rest or has reached MAX_STEPS. */
function stepDescent(descent) {
  advance(descent);
  const end = descent.w1.length - 1;
  if (descent.diverged !== null) {
    endDescent(descent, `diverged at step ${descent.diverged}`);
    return;
  }
  if (TEST) descent.test.push(lossAt(TEST, descent.w1[end], descent.w2[end]));
  const moved = Math.hypot(
    descent.w1[end] - descent.w1[end - 1],
    descent.w2[end] - descent.w2[end - 1],
  );
  if (moved <= REST_TOL && descent.gradient <= REST_TOL * LOSS_AT_ORIGIN)
    endDescent(descent, `at rest after step ${end}`);
  else if (end >= MAX_STEPS) endDescent(descent, `ended after ${MAX_STEPS} steps`);
}

function endDescent(descent, outcome) {
  descent.state = outcome;
  const where = describePoint(descent.w1.at(-1), descent.w2.at(-1));
  announce(`Descent ${descentName(descent)}: ${outcome}${descent.diverged === null ? `, ${where}` : ""}.`);
}

function runningDescents() {
  return state.descents.filter((descent) => descent.state === "running");
}

function stepAll(count) {
  for (const descent of runningDescents())
    for (let k = 0; k < count && descent.state === "running"; k++) stepDescent(descent);
}

function clearDescents() {
  state.descents = [];
  state.started = 0;
  ended = [];
  state.lossAxes = { steps: 0, range: [0, 0] };
  element("descents").replaceChildren();
  drawSurface(panels.surface, GRID, state.scale, []);
  paint();
}

// The list

function addToList(descent) {
  const item = document.createElement("li");
  const mark = document.createElement("canvas");
  [mark.width, mark.height] = [44, 44];
  drawShape(mark.getContext("2d"), descent.style.shape, descent.style.color, 22, 22, 13);
  const [name, numbers] = [document.createElement("span"), document.createElement("span")];
  name.textContent = descentName(descent);
  numbers.className = "numbers";
  item.append(mark, name, numbers);
  element("descents").append(item);
  descent.numbers = numbers;
  // Scroll the list only, not the page.
  element("descents").scrollTop = element("descents").scrollHeight;
}

function showNumbers(descent) {
  if (descent.diverged !== null) {
    descent.numbers.textContent = descent.state;
    return;
  }
  const end = descent.loss.length - 1;
  const [w1, w2] = [descent.w1[end], descent.w2[end]];
  const test = TEST ? `, test ${formatNumber(descent.test[end], 3)}` : "";
  const outside = clipSegment([w1, w2], [w1, w2], BOX) ? "" : ", outside the plot";
  const progress = descent.state === "running" ? `step ${end}` : descent.state;
  descent.numbers.textContent = `${progress}${outside}: loss ${formatNumber(descent.loss[end], 3)}${test}`;
}

// Drawing

/** Draw everything that moves: the canvases and the list of descents. */
function paint() {
  updateLossAxes();
  paintContour(panels.contour, state.descents, state.cursor, BOX);
  paintLoss(panels.loss, state.descents, chartScale());
  paintFit(panels.fit, state.descents, state.cursor);
  state.descents.forEach(showNumbers);
  element("none").hidden = state.descents.length > 0;
  for (const id of ["clear", "pause", "step"]) element(id).disabled = !state.descents.length;
  element("pause").textContent = state.paused ? "Run" : "Pause";
}

/** Draw descents on the surface, less often than `paint`, because plotly.js is slow. */
function paintSurface(descents) {
  const traces = descents.flatMap((descent) => surfaceTraces(descent, GRID, state.scale, BOX));
  if (!traces.length) return;
  const indices = descents.flatMap((descent) => {
    const first = 1 + 3 * state.descents.indexOf(descent);
    return [first, first + 1, first + 2];
  });
  const along = (axis) => traces.map((trace) => trace[axis]);
  Plotly.restyle(panels.surface.plot, { x: along("x"), y: along("y"), z: along("z") }, indices);
}

/** The smallest of 50, 100, 200, 500, … that is at least `steps`. */
function roundUp(steps) {
  const power = 10 ** Math.floor(Math.log10(Math.max(steps, 50)));
  return [1, 2, 5, 10].map((k) => k * power).find((round) => round >= Math.max(steps, 50));
}

/** Redraw the loss axes if they no longer fit the losses up to the surface's highest. */
function updateLossAxes() {
  const scale = chartScale();
  const steps = roundUp(Math.max(0, ...state.descents.map((descent) => descent.loss.length - 1)));
  let [low, high] = [Infinity, -Infinity];
  for (const descent of state.descents)
    for (const losses of [descent.loss, descent.test ?? []]) {
      const range = (losses.range ??= { seen: 0, low: Infinity, high: -Infinity });
      for (; range.seen < losses.length; range.seen++) {
        range.low = Math.min(range.low, losses[range.seen]);
        range.high = Math.max(range.high, losses[range.seen]);
      }
      [low, high] = [Math.min(low, range.low), Math.max(high, range.high)];
    }
  if (!state.descents.length) [low, high] = [GRID.lowest, GRID.highest];
  const notes = [TEST && "Dashed: test loss.", high > GRID.highest && "Higher losses are not shown."];
  element("loss-note").textContent = notes.filter(Boolean).join(" ");
  const top = heightOf(Math.max(low, Math.min(high, GRID.highest)), scale);
  const bottom = heightOf(low, scale);
  const axes = state.lossAxes;
  const size = axes.range[1] - axes.range[0];
  const fits = bottom >= axes.range[0] && top <= axes.range[1] && top - bottom > 0.4 * size;
  if (fits && steps === axes.steps) return;
  const margin = 0.12 * (top - bottom || Math.abs(top) || 1);
  state.lossAxes = { steps, range: [bottom - margin, top + margin] };
  drawLossAxes(panels.loss, steps, state.lossAxes.range, scale);
}

/** Draw everything, at the start and after a change of theme or scale. */
async function drawAll() {
  state.lossAxes = { steps: 0, range: [0, 0] };
  const paths = state.descents.map((descent) => surfaceTraces(descent, GRID, state.scale, BOX));
  await Promise.all([
    drawContour(panels.contour, GRID, state.scale),
    drawData(panels.fit, PAGE_DATA.train.drawn, PAGE_DATA.test?.drawn),
    drawSurface(panels.surface, GRID, state.scale, paths),
  ]);
  paint();
}

let last = performance.now();
let due = 0;
let painted = 0;
let surfacePainted = 0;
let surfaceTook = 0;
let ended = [];

/** Take the steps that are due; draw 30 times per second, or once if reduced motion is requested. */
function tick(now) {
  requestAnimationFrame(tick);
  const passed = Math.min((now - last) / 1000, 0.25);
  last = now;
  const before = runningDescents();
  if (!before.length || state.paused) {
    due = 0;
  } else {
    due += passed * speed();
    const count = Math.floor(due);
    due -= count;
    stepAll(count);
  }
  ended.push(...before.filter((descent) => descent.state !== "running"));
  const moving = state.paused ? [] : before;
  if ((moving.length || ended.length) && now - painted >= (reducedMotion.matches ? 1000 : 30)) {
    painted = now;
    paint();
  }
  // Spend at most a quarter of the time on the surface.
  const wait = reducedMotion.matches ? 1000 : Math.max(100, 4 * surfaceTook);
  if ((moving.length || ended.length) && now - surfacePainted >= wait) {
    const begun = performance.now();
    paintSurface([...new Set([...runningDescents(), ...ended])]);
    ended = [];
    [surfacePainted, surfaceTook] = [now, performance.now() - begun];
  }
}

// Events

function clamp(value, [low, high]) {
  return Math.min(Math.max(value, low), high);
}

function moveCursor(w1, w2) {
  state.cursor = [clamp(w1, BOX.w1), clamp(w2, BOX.w2)];
}

function pointerPosition(event) {
  const frame = frameOf(panels.contour);
  const bounds = panels.contour.plot.getBoundingClientRect();
  const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
  const inside = x >= frame.left && x <= frame.left + frame.width && y >= frame.top;
  return inside && y <= frame.top + frame.height ? frame.valueAt(x, y) : null;
}

function onKey(event) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    start(...state.cursor);
  } else if (event.key in arrows) {
    event.preventDefault();
    const size = event.shiftKey ? 0.1 : 0.01;
    const [right, up] = arrows[event.key];
    const [across, tall] = [BOX.w1[1] - BOX.w1[0], BOX.w2[1] - BOX.w2[0]];
    moveCursor(state.cursor[0] + right * size * across, state.cursor[1] + up * size * tall);
    announce(`Cursor at ${describePoint(...state.cursor)}.`);
    paint();
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  colors.clear();
  element("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function addListeners() {
  const contour = panels.contour.element;
  contour.addEventListener("click", (event) => {
    const point = pointerPosition(event);
    if (point) start(...point);
  });
  contour.addEventListener("pointermove", (event) => {
    const point = pointerPosition(event);
    element("pointer").textContent = point ? `Pointer: ${describePoint(...point)}` : "";
  });
  contour.addEventListener("pointerleave", () => (element("pointer").textContent = ""));
  contour.addEventListener("keydown", onKey);
  addSurfaceListeners(panels.surface.plot);
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("controls").addEventListener("input", showSettings);
  element("start").addEventListener("click", () => start(...state.cursor));
  element("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    announce(state.paused ? "Paused." : "Running.");
    paint();
    paintSurface(runningDescents());
  });
  element("step").addEventListener("click", () => {
    state.paused = true;
    const moving = runningDescents();
    stepAll(1);
    const now = moving.at(-1);
    if (now && now.state === "running")
      announce(`Step ${now.w1.length - 1}: ${describePoint(now.w1.at(-1), now.w2.at(-1))}.`);
    paint();
    paintSurface(moving);
  });
  element("clear").addEventListener("click", () => {
    clearDescents();
    announce("All descents were cleared.");
  });
  element("reset").addEventListener("click", reset);
  element("log").addEventListener("change", (event) => {
    state.scale.log = event.target.checked;
    drawAll();
  });
  element("theme").addEventListener("click", () => {
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    drawAll();
  });
  followPanelSizes();
}

/**
 * Start a descent at the node under the pointer when the surface is clicked, but not after a drag.
 * plotly.js repeats its click event with every frame while the button is down, so it is not used.
 */
function addSurfaceListeners(plot) {
  let [node, pressed] = [null, null];
  const remember = ({ points: [point] }) => (node = point.curveNumber === 0 ? [point.x, point.y] : null);
  for (const event of ["plotly_hover", "plotly_click"]) plot.on(event, remember);
  plot.on("plotly_unhover", () => (node = null));
  const dragged = (event) => Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]);
  plot.addEventListener("pointerdown", (event) => (pressed = [event.clientX, event.clientY]), true);
  plot.addEventListener("pointerup", (event) => {
    if (pressed && node && dragged(event) < 4) start(...node);
    pressed = null;
  }, true);
}

function reset() {
  state.paused = false;
  state.cursor = [BOX.w1, BOX.w2].map(([low, high]) => low + (high - low) / 3);
  setDefaults();
  clearDescents();
  announce("Descents and settings were reset.");
}

/** Resize plots and canvases with their panels. */
function followPanelSizes() {
  const sizes = new Map();
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const panel = Object.values(panels).find((one) => one.element === target);
      const size = `${target.clientWidth} × ${target.clientHeight}`;
      if (sizes.has(target) && sizes.get(target) !== size)
        Promise.resolve(Plotly.Plots.resize(panel.plot)).then(paint);
      sizes.set(target, size);
    }
  });
  for (const panel of Object.values(panels)) observer.observe(panel.element);
}

function describeData() {
  const sets = [["training", PAGE_DATA.train], ["test", PAGE_DATA.test]].filter(([, set]) => set);
  const all = sets.map(([kind, { samples, weighted }]) => {
    return `${samples.toLocaleString("en")} ${weighted ? "weighted " : ""}${kind} samples`;
  });
  element("about").textContent = `Mean squared error of ${all.join(" and of ")}.`;
  const drawn = sets.map(([kind, { samples, drawn: { x } }]) => {
    const mark = kind === "test" ? "▲" : "●";
    return `${mark} ${x.length} of ${samples.toLocaleString("en")} ${kind} samples`;
  });
  const targets = sets.flatMap(([, set]) => set.drawn.y);
  const [low, high] = dataRange(targets);
  const outside = targets.filter((y) => y < low || y > high).length;
  element("fit-note").textContent =
    `Drawn: ${drawn.join(", ")}` +
    (outside ? `, ${outside} of them outside the plot. ` : ". ") +
    "Dashed: prediction at the cursor.";
  element("grid-note").textContent =
    `Training loss at ${CELLS} × ${CELLS} points. A click also starts a descent.`;
}

for (const [value, { name }] of Object.entries(OPTIMIZERS))
  element("optimizer").append(new Option(name, value));
element("log").checked = state.scale.log;
setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
setDefaults();
describeData();
drawAll().then(() => {
  addListeners();
  announce(`Cursor at ${describePoint(...state.cursor)}.`);
  requestAnimationFrame(tick);
  // For the console and for tests.
  window.jaxscape = { train: TRAIN, test: TEST, state, panels, start };
  Object.assign(window.jaxscape, { descend, lossAt, lossAndGradient, frameOf });
});
