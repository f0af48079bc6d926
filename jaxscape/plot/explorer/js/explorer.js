// The page: what is chosen, which descents there are, and what happens when.

const GIVEN = JSON.parse(document.getElementById("data").textContent);
const TRAIN = readPanels(GIVEN.train.panels);
const TEST = GIVEN.test && readPanels(GIVEN.test.panels);
const BOX = GIVEN.box;
const GRID = gridOf(TRAIN, BOX);
const AT_ORIGIN = lossAt(TRAIN, 0, 0);
const MOST_DESCENTS = 12;
const MOST_STEPS = 20000;
// A descent rests where neither the slope, in units of the loss at (0, 0), nor the step is more.
const AT_REST = 1e-10;
const DEFAULTS = { optimizer: "gd", rate: 0.05, momentum: 0.9, speed: 20 };

const element = (id) => document.getElementById(id);
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const panels = Object.fromEntries(
  ["contour", "surface", "loss", "fit"].map((name) => [name, makePanel(name)]),
);
const state = {
  descents: [],
  started: 0,
  cursor: [BOX.w1, BOX.w2].map(([low, high]) => low + (high - low) / 3),
  paused: false,
  scale: { log: GRID.highest > 50 * GRID.lowest, least: leastLoss() },
  lossAxes: { steps: 0, range: [0, 0] },
};

/** Below it logarithms end: the lowest loss of the surface, if it is not 0. */
function leastLoss() {
  return Math.max(GRID.lowest, 1e-9 * GRID.highest) || 1;
}

/** The scale of the chart over steps, where a loss may fall far below the surface's grid. */
function chartScale() {
  return { log: state.scale.log, least: 1e-20 * GRID.highest || 1 };
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
  element("rate-value").textContent = text(rate, 2);
  element("momentum-value").textContent = label ? momentum.toFixed(2) : "not used";
  element("momentum-label").textContent = label ?? "Momentum β";
  element("momentum").disabled = !label;
  element("momentum").parentElement.classList.toggle("off", !label);
  element("speed-value").textContent = speed();
  element("rate").setAttribute("aria-valuetext", text(rate, 2));
  element("speed").setAttribute("aria-valuetext", `${speed()} steps per second`);
}

function setDefaults() {
  element("optimizer").value = DEFAULTS.optimizer;
  element("rate").value = Math.log10(DEFAULTS.rate);
  element("momentum").value = DEFAULTS.momentum;
  element("speed").value = Math.log10(DEFAULTS.speed);
  showSettings();
}

function say(message) {
  element("status").textContent = message;
}

function placeOf(w1, w2) {
  return `w1 ${text(w1, 4)}, w2 ${text(w2, 4)}, loss ${text(lossAt(TRAIN, w1, w2))}`;
}

// Descents

function lookOf(index) {
  const count = GIVEN.colors.length;
  return {
    index,
    color: GIVEN.colors[index % count],
    shape: SHAPES[(index + Math.floor(index / count)) % SHAPES.length],
  };
}

function nameOf(descent) {
  const { optimizer, rate, momentum } = descent.settings;
  const { name, momentum: used } = OPTIMIZERS[optimizer];
  return `${descent.number}. ${name}, rate ${text(rate, 2)}${used ? `, β ${momentum}` : ""}`;
}

function start(w1, w2) {
  moveCursor(w1, w2);
  if (state.descents.length >= MOST_DESCENTS) {
    say(`${MOST_DESCENTS} descents are kept. Clear them to start another.`);
    return;
  }
  const descent = newDescent(TRAIN, settings(), [w1, w2]);
  descent.look = lookOf(state.descents.length);
  descent.number = ++state.started;
  descent.test = TEST && [lossAt(TEST, w1, w2)];
  descent.state = "running";
  state.descents.push(descent);
  addToList(descent);
  const waiting = state.paused ? " It is paused: press Run or Step." : "";
  say(`Descent ${nameOf(descent)}: starts at ${placeOf(w1, w2)}.${waiting}`);
  const traces = tracesOf(descent, GRID, state.scale, BOX);
  Plotly.addTraces(panels.surface.plot, traces);
  paint();
}

/** One step of a descent that runs, and whether that was its last. */
function stepOf(descent) {
  advance(descent);
  const end = descent.w1.length - 1;
  if (descent.diverged !== null) {
    finish(descent, `diverged at step ${descent.diverged}`);
    return;
  }
  if (TEST) descent.test.push(lossAt(TEST, descent.w1[end], descent.w2[end]));
  const moved = Math.hypot(
    descent.w1[end] - descent.w1[end - 1],
    descent.w2[end] - descent.w2[end - 1],
  );
  if (moved <= AT_REST && descent.gradient <= AT_REST * AT_ORIGIN)
    finish(descent, `at rest after step ${end}`);
  else if (end >= MOST_STEPS) finish(descent, `ended after ${MOST_STEPS} steps`);
}

function finish(descent, how) {
  descent.state = how;
  const where = placeOf(descent.w1.at(-1), descent.w2.at(-1));
  say(`Descent ${nameOf(descent)}: ${how}${descent.diverged === null ? `, ${where}` : ""}.`);
}

function running() {
  return state.descents.filter((descent) => descent.state === "running");
}

function stepAll(count) {
  for (const descent of running())
    for (let k = 0; k < count && descent.state === "running"; k++) stepOf(descent);
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
  drawShape(mark.getContext("2d"), descent.look.shape, descent.look.color, 22, 22, 13);
  const [name, numbers] = [document.createElement("span"), document.createElement("span")];
  name.textContent = nameOf(descent);
  numbers.className = "numbers";
  item.append(mark, name, numbers);
  element("descents").append(item);
  descent.numbers = numbers;
  // Only the list scrolls: the page stays where it was clicked.
  element("descents").scrollTop = element("descents").scrollHeight;
}

function showNumbers(descent) {
  if (descent.diverged !== null) {
    descent.numbers.textContent = descent.state;
    return;
  }
  const end = descent.loss.length - 1;
  const [w1, w2] = [descent.w1[end], descent.w2[end]];
  const test = TEST ? `, test ${text(descent.test[end], 3)}` : "";
  const beyond = cutAtEdge([w1, w2], [w1, w2], BOX) ? "" : ", beyond the edge";
  const doing = descent.state === "running" ? `step ${end}` : descent.state;
  descent.numbers.textContent = `${doing}${beyond}: loss ${text(descent.loss[end], 3)}${test}`;
}

// Drawing

/** What moves, on the canvases and in the list. */
function paint() {
  keepLossAxes();
  paintContour(panels.contour, state.descents, state.cursor, BOX);
  paintLoss(panels.loss, state.descents, chartScale());
  paintFit(panels.fit, state.descents, state.cursor);
  state.descents.forEach(showNumbers);
  element("none").hidden = state.descents.length > 0;
  for (const id of ["clear", "pause", "step"]) element(id).disabled = !state.descents.length;
  element("pause").textContent = state.paused ? "Run" : "Pause";
}

/** Paths on the surface; plotly takes its time, so not with every frame. */
function paintSurface(descents) {
  const traces = descents.flatMap((descent) => tracesOf(descent, GRID, state.scale, BOX));
  if (!traces.length) return;
  const indices = descents.flatMap((descent) => {
    const first = 1 + 3 * state.descents.indexOf(descent);
    return [first, first + 1, first + 2];
  });
  const along = (axis) => traces.map((trace) => trace[axis]);
  Plotly.restyle(panels.surface.plot, { x: along("x"), y: along("y"), z: along("z") }, indices);
}

/** The next of 50, 100, 200, 500, … */
function roundUp(steps) {
  const power = 10 ** Math.floor(Math.log10(Math.max(steps, 50)));
  return [1, 2, 5, 10].map((k) => k * power).find((round) => round >= Math.max(steps, 50));
}

/** Axes that hold all losses up to the surface's highest; drawn anew when they no longer do. */
function keepLossAxes() {
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
  const notes = [TEST && "Dashed: test loss.", high > GRID.highest && "Some are beyond the frame."];
  element("loss-note").textContent = notes.filter(Boolean).join(" ");
  const top = heightOf(Math.max(low, Math.min(high, GRID.highest)), scale);
  const bottom = heightOf(low, scale);
  const axes = state.lossAxes;
  const size = axes.range[1] - axes.range[0];
  const fits = bottom >= axes.range[0] && top <= axes.range[1] && top - bottom > 0.4 * size;
  if (fits && steps === axes.steps) return;
  const room = 0.12 * (top - bottom || Math.abs(top) || 1);
  state.lossAxes = { steps, range: [bottom - room, top + room] };
  drawLossAxes(panels.loss, steps, state.lossAxes.range, scale);
}

/** Everything, as after a change of theme or scale. */
async function drawAll() {
  state.lossAxes = { steps: 0, range: [0, 0] };
  const paths = state.descents.map((descent) => tracesOf(descent, GRID, state.scale, BOX));
  await Promise.all([
    drawContour(panels.contour, GRID, state.scale),
    drawData(panels.fit, GIVEN.train.drawn, GIVEN.test?.drawn),
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

/** Steps that are due, and 30 times a second a drawing; once for who asked for less motion. */
function tick(now) {
  requestAnimationFrame(tick);
  const passed = Math.min((now - last) / 1000, 0.25);
  last = now;
  const before = running();
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
  if ((moving.length || ended.length) && now - painted >= (calm.matches ? 1000 : 30)) {
    painted = now;
    paint();
  }
  // At most a quarter of the time goes into the surface.
  const wait = calm.matches ? 1000 : Math.max(100, 4 * surfaceTook);
  if ((moving.length || ended.length) && now - surfacePainted >= wait) {
    const begun = performance.now();
    paintSurface([...new Set([...running(), ...ended])]);
    ended = [];
    [surfacePainted, surfaceTook] = [now, performance.now() - begun];
  }
}

// What happens when

function within(value, [low, high]) {
  return Math.min(Math.max(value, low), high);
}

function moveCursor(w1, w2) {
  state.cursor = [within(w1, BOX.w1), within(w2, BOX.w2)];
}

function pointOf(event) {
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
    say(`Cursor at ${placeOf(...state.cursor)}.`);
    paint();
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  colors.clear();
  element("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function connect() {
  const contour = panels.contour.element;
  contour.addEventListener("click", (event) => {
    const point = pointOf(event);
    if (point) start(...point);
  });
  contour.addEventListener("pointermove", (event) => {
    const point = pointOf(event);
    element("pointer").textContent = point ? `Under the pointer: ${placeOf(...point)}` : "";
  });
  contour.addEventListener("pointerleave", () => (element("pointer").textContent = ""));
  contour.addEventListener("keydown", onKey);
  connectSurface(panels.surface.plot);
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("controls").addEventListener("input", showSettings);
  element("start").addEventListener("click", () => start(...state.cursor));
  element("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    say(state.paused ? "Paused." : "Running.");
    paint();
    paintSurface(running());
  });
  element("step").addEventListener("click", () => {
    state.paused = true;
    const moving = running();
    stepAll(1);
    const now = moving.at(-1);
    if (now && now.state === "running")
      say(`Step ${now.w1.length - 1}: ${placeOf(now.w1.at(-1), now.w2.at(-1))}.`);
    paint();
    paintSurface(moving);
  });
  element("clear").addEventListener("click", () => {
    clearDescents();
    say("All descents are cleared.");
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
  watchSizes();
}

/**
 * A click on the surface starts a descent at its node under the pointer; a drag only turns it.
 * plotly tells of a click with every frame while the button is down, so that its word is not used.
 */
function connectSurface(plot) {
  let [node, pressed] = [null, null];
  const see = ({ points: [point] }) => (node = point.curveNumber === 0 ? [point.x, point.y] : null);
  for (const event of ["plotly_hover", "plotly_click"]) plot.on(event, see);
  plot.on("plotly_unhover", () => (node = null));
  const apart = (event) => Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]);
  plot.addEventListener("pointerdown", (event) => (pressed = [event.clientX, event.clientY]), true);
  plot.addEventListener("pointerup", (event) => {
    if (pressed && node && apart(event) < 4) start(...node);
    pressed = null;
  }, true);
}

function reset() {
  state.paused = false;
  state.cursor = [BOX.w1, BOX.w2].map(([low, high]) => low + (high - low) / 3);
  setDefaults();
  clearDescents();
  say("All is as it was at first.");
}

/** Plots follow the size of their panels, and the canvases that of the plots. */
function watchSizes() {
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

function describe() {
  const sets = [["training", GIVEN.train], ["test", GIVEN.test]].filter(([, set]) => set);
  const all = sets.map(([kind, { samples, weighted }]) => {
    return `${samples.toLocaleString("en")} ${weighted ? "weighted " : ""}${kind} points`;
  });
  element("about").textContent = `Mean squared error over ${all.join("; beside it ")}.`;
  const drawn = sets.map(([kind, { samples, drawn: { x } }]) => {
    const mark = kind === "test" ? "▲" : "●";
    return `${mark} ${x.length} of ${samples.toLocaleString("en")} ${kind} points`;
  });
  const targets = sets.flatMap(([, set]) => set.drawn.y);
  const [low, high] = endsOf(targets);
  const beyond = targets.filter((y) => y < low || y > high).length;
  element("fit-note").textContent =
    `Drawn: ${drawn.join(", ")}` +
    (beyond ? `, ${beyond} of them beyond the frame. ` : ". ") +
    "Dashed: at the cursor.";
  element("grid-note").textContent =
    `Training loss at ${CELLS} × ${CELLS} points. A click on it starts a descent, too.`;
}

for (const [value, { name }] of Object.entries(OPTIMIZERS))
  element("optimizer").append(new Option(name, value));
element("log").checked = state.scale.log;
setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
setDefaults();
describe();
drawAll().then(() => {
  connect();
  say(`Cursor at ${placeOf(...state.cursor)}.`);
  requestAnimationFrame(tick);
  // What a console, or a test, may call.
  window.jaxscape = { train: TRAIN, test: TEST, state, panels, start };
  Object.assign(window.jaxscape, { descend, lossAt, lossAndGradient, frameOf });
});
