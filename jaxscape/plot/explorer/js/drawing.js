// The four panels. plotly.js draws surface, axes and data; canvases above them show moving parts.

// Markers that both the canvas and plotly.js can draw, ordered so that neighbors differ.
const SHAPES = ["circle", "square", "diamond", "cross", "x", "circle-open"];
const CELLS = 121;
const STATIC = { staticPlot: true, displayModeBar: false };
const CURVE_POINTS = 241;
const MAX_LOSSES = 1000;

const colors = new Map();

/** A color of the page's theme, cached until the theme changes. */
function themeColor(name) {
  if (!colors.has(name)) {
    const style = getComputedStyle(document.documentElement);
    colors.set(name, style.getPropertyValue("--" + name).trim());
  }
  return colors.get(name);
}

/** A number as text, with the minus sign −. */
function formatNumber(number, digits = 5) {
  if (!Number.isFinite(number)) return "not finite";
  return String(Number(number.toPrecision(digits))).replace("-", "−");
}

/** `count` evenly spaced numbers from `low` to `high`. */
function linspace(low, high, count) {
  return Array.from({ length: count }, (_, k) => low + ((high - low) * k) / (count - 1));
}

/** Add a plot and a canvas above it to the element with this id. */
function makePanel(name) {
  const element = document.getElementById(name);
  const plot = document.createElement("div");
  plot.className = "plot plotly-graph-div";
  const canvas = document.createElement("canvas");
  element.append(plot, canvas);
  return { element, plot, canvas };
}

/** The rectangle of a panel's axes, and conversions between coordinates and pixels. */
function frameOf(panel) {
  const { xaxis, yaxis } = panel.plot._fullLayout;
  return {
    left: xaxis._offset,
    top: yaxis._offset,
    width: xaxis._length,
    height: yaxis._length,
    x: (value) => xaxis._offset + xaxis.l2p(value),
    y: (value) => yaxis._offset + yaxis.l2p(value),
    valueAt: (x, y) => [xaxis.p2l(x - xaxis._offset), yaxis.p2l(y - yaxis._offset)],
  };
}

/** Clear a panel's canvas, match it to the screen's pixels, and clip it to the axes. */
function clearCanvas(panel, frame) {
  const { canvas } = panel;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.beginPath();
  pen.rect(frame.left, frame.top, frame.width, frame.height);
  pen.clip();
  [pen.lineJoin, pen.lineCap] = ["round", "round"];
  return pen;
}

/** The layout that all panels share, with additions. */
function baseLayout(more) {
  return {
    font: { family: "system-ui, sans-serif", size: 14, color: themeColor("ink") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 58, r: 10, t: 8, b: 48 },
    showlegend: false,
    ...more,
  };
}

function axisLayout(title, range, more) {
  const line = themeColor("line");
  return {
    title: { text: title, standoff: 12 },
    range,
    gridcolor: line,
    linecolor: line,
    zeroline: false,
    fixedrange: true,
    nticks: 6,
    tickangle: 0,
    ...more,
  };
}

/** The drawn height of a loss; on a log scale, lower losses are drawn at `scale.lowest`. */
function heightOf(loss, scale) {
  return scale.log ? Math.log10(Math.max(loss, scale.lowest)) : loss;
}

/** The ticks of a log axis in units of the loss, fewer if `short`; none for a linear axis. */
function logTicks(low, high, scale, short = false) {
  if (!scale.log) return {};
  const values = [];
  const fine =
    high - low < 1.5 ? [1, 1.5, 2, 3, 5, 7] : high - low < 3 && !short ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil((high - low) / 6));
  for (let power = Math.floor(low); power <= high; power++)
    if (power % every === 0) for (const k of fine) values.push(power + Math.log10(k));
  const within = values.filter((value) => value >= low && value <= high);
  return { tickvals: within, ticktext: within.map((value) => formatNumber(10 ** value, 2)) };
}

/** The losses on a grid over the box, losses[j][i] at (w1[i], w2[j]), with axes and range. */
function computeGrid(polynomials, box) {
  const w1 = linspace(...box.w1, CELLS);
  const w2 = linspace(...box.w2, CELLS);
  const parabolas = w1.map((value) => parabolaAt(polynomials, value));
  const losses = w2.map((value) => parabolas.map((parabola) => lossOnParabola(parabola, value)));
  const all = losses.flat();
  return { w1, w2, losses, lowest: Math.min(...all), highest: Math.max(...all) };
}

function drawContour(panel, grid, scale) {
  const z = grid.losses.map((row) => row.map((loss) => heightOf(loss, scale)));
  const [low, high] = [grid.lowest, grid.highest].map((loss) => heightOf(loss, scale));
  const narrow = panel.element.clientWidth < 330;
  const trace = {
    type: "contour",
    x: grid.w1,
    y: grid.w2,
    z,
    colorscale: "Viridis",
    ncontours: 22,
    contours: { coloring: "heatmap" },
    line: { color: "rgba(255, 255, 255, 0.45)", width: 0.8 },
    colorbar: {
      title: { text: "loss" },
      thickness: 12,
      outlinewidth: 0,
      xpad: 4,
      ypad: 0,
      ...logTicks(low, high, scale),
    },
    showscale: !narrow,
  };
  const layout = baseLayout({
    xaxis: axisLayout("w1", [grid.w1[0], grid.w1.at(-1)], { nticks: 8 }),
    yaxis: axisLayout("w2", [grid.w2[0], grid.w2.at(-1)], { nticks: 8 }),
  });
  return Plotly.react(panel.plot, [trace], layout, STATIC);
}

function drawSurface(panel, grid, scale, paths) {
  const z = grid.losses.map((row) => row.map((loss) => heightOf(loss, scale)));
  const [low, high] = [grid.lowest, grid.highest].map((loss) => heightOf(loss, scale));
  const surface = {
    type: "surface",
    x: grid.w1,
    y: grid.w2,
    z,
    colorscale: "Viridis",
    showscale: false,
    lighting: { ambient: 0.75, diffuse: 0.5, specular: 0.08, roughness: 0.8 },
    hoverinfo: "none",
    contours: { x: { highlight: false }, y: { highlight: false }, z: { highlight: false } },
  };
  const plain = { showgrid: false, zeroline: false, nticks: 5, showspikes: false };
  plain.tickfont = { size: 12 };
  // In a narrow panel, move the camera back so that the titles of the axes fit.
  const { clientWidth, clientHeight } = panel.element;
  const distance = Math.max(0.95, (1.2 * Math.max(clientHeight, 360)) / clientWidth);
  const layout = baseLayout({
    margin: { l: 0, r: 0, t: 0, b: 0 },
    uirevision: "kept",
    scene: {
      xaxis: { ...plain, title: { text: "w1" } },
      yaxis: { ...plain, title: { text: "w2" } },
      zaxis: { ...plain, title: { text: "loss", font: { size: 13 } }, ...logTicks(low, high, scale, true) },
      aspectmode: "manual",
      aspectratio: { x: 1, y: 1, z: 0.7 },
      camera: {
        eye: { x: 1.2 * distance, y: -1.34 * distance, z: 0.95 * distance },
        center: { x: -0.12, y: -0.107, z: -0.1 },
      },
    },
  });
  const options = { displayModeBar: false, scrollZoom: false };
  return Plotly.react(panel.plot, [surface, ...paths.flat()], layout, options);
}

/** The part within the box of the segment from p to q, points [w1, w2, loss]; null if none. */
function clipSegment(p, q, box) {
  // Liang and Barsky (1984).
  let [first, last] = [0, 1];
  for (const [k, [low, high]] of [box.w1, box.w2].entries()) {
    const delta = q[k] - p[k];
    if (delta === 0) {
      if (p[k] < low || p[k] > high) return null;
      continue;
    }
    const sides = [(low - p[k]) / delta, (high - p[k]) / delta].sort((a, b) => a - b);
    [first, last] = [Math.max(first, sides[0]), Math.min(last, sides[1])];
  }
  if (first > last) return null;
  return [first, last].map((t) => p.map((value, k) => value + t * (q[k] - value)));
}

/** The height of the drawn surface, interpolated between nodes; above the loss in a narrow valley. */
function surfaceHeight(grid, scale, w1, w2) {
  const locate = (values, value) => {
    const position = ((value - values[0]) / (values.at(-1) - values[0])) * (CELLS - 1);
    const cell = Math.min(Math.max(Math.floor(position), 0), CELLS - 2);
    return [cell, position - cell];
  };
  const [[i, across], [j, up]] = [locate(grid.w1, w1), locate(grid.w2, w2)];
  const corner = (right, above) => heightOf(grid.losses[j + above][i + right], scale);
  const along = (above) => (1 - across) * corner(0, above) + across * corner(1, above);
  return (1 - up) * along(0) + up * along(1);
}

/** A descent's traces slightly above the surface: line, dots, and marker of the current point. */
function surfaceTraces(descent, grid, scale, box) {
  const [low, high] = [grid.lowest, grid.highest].map((loss) => heightOf(loss, scale));
  const lift = 0.012 * (high - low || 1);
  const pointAt = (w1, w2, loss) => {
    const inside = clipSegment([w1, w2], [w1, w2], box);
    const height = heightOf(loss, scale);
    return [w1, w2, inside ? Math.max(height, surfaceHeight(grid, scale, w1, w2)) : height];
  };
  const point = (k) => pointAt(descent.w1[k], descent.w2[k], descent.loss[k]);
  const points = drawnSteps(descent, box).map(point);
  const line = points.slice(1).flatMap((q, k) => {
    const piece = clipSegment(points[k], q, box);
    return piece ? [...piece, [null, null, null]] : [];
  });
  const inside = points.filter((p) => clipSegment(p, p, box));
  const current = clipSegment(points.at(-1), points.at(-1), box) ? [points.at(-1)] : [];
  const trace = (points, height, more) => ({
    type: "scatter3d",
    x: points.map((p) => p[0]),
    y: points.map((p) => p[1]),
    z: points.map((p) => (p[2] === null ? null : Math.min(p[2], high) + height * lift)),
    hoverinfo: "none",
    ...more,
  });
  const { color, shape } = descent.style;
  const rim = { color: "black", width: 1.5 };
  return [
    trace(line, 1, { mode: "lines", line: { color: color, width: 6 } }),
    trace(separatePoints(inside, box), 1.2, { mode: "markers", marker: { color: color, size: 4, line: rim } }),
    trace(current, 2, { mode: "markers", marker: { color: color, symbol: shape, size: 7, line: rim } }),
  ];
}

/** The points [w1, w2, height] without those that overlap the last one kept on the surface. */
function separatePoints(points, box) {
  const chosen = points.slice(0, 1);
  for (const point of points) {
    const offset = [box.w1, box.w2].map(([low, high], k) => (point[k] - chosen.at(-1)[k]) / (high - low));
    if (Math.hypot(...offset) > 0.012) chosen.push(point);
  }
  return chosen;
}

/** The drawn steps of a descent: those visibly away from the previous drawn one, and the last. */
function drawnSteps(descent, box) {
  const [across, up] = [box.w1[1] - box.w1[0], box.w2[1] - box.w2[0]];
  const kept = (descent.kept ??= [0]);
  for (let k = descent.seen ?? 1; k < descent.w1.length; k++) {
    const last = kept.at(-1);
    const distance = Math.hypot(
      (descent.w1[k] - descent.w1[last]) / across,
      (descent.w2[k] - descent.w2[last]) / up,
    );
    if (distance > 0.001) kept.push(k);
  }
  descent.seen = descent.w1.length;
  return [...kept, descent.w1.length - 1];
}

/** Draw a colored line on a wider dark one, visible on every background. */
function strokeLine(pen, points, color, width, dash = []) {
  if (!points.length) return;
  pen.beginPath();
  for (const [x, y] of points) pen.lineTo(x, y);
  pen.setLineDash(dash);
  for (const [style, thickness] of [[themeColor("casing"), width + 2], [color, width]]) {
    [pen.strokeStyle, pen.lineWidth] = [style, thickness];
    pen.stroke();
  }
  pen.setLineDash([]);
}

/** Draw a descent's marker of radius `r`. */
function drawShape(pen, shape, color, x, y, r) {
  const outlines = {
    circle: () => pen.arc(x, y, r, 0, 2 * Math.PI),
    "circle-open": () => pen.arc(x, y, r, 0, 2 * Math.PI),
    square: () => pen.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r),
    diamond: () => polygon(pen, x, y, [[0, -1.3 * r], [1.3 * r, 0], [0, 1.3 * r], [-1.3 * r, 0]]),
    cross: () => polygon(pen, x, y, crossCorners(1.25 * r, 0.42 * r, 0)),
    x: () => polygon(pen, x, y, crossCorners(1.35 * r, 0.42 * r, Math.PI / 4)),
  };
  pen.beginPath();
  outlines[shape]();
  const dark = themeColor("casing");
  if (shape === "circle-open") {
    for (const [style, width] of [[dark, 0.9 * r], [color, 0.45 * r]]) {
      [pen.strokeStyle, pen.lineWidth] = [style, width];
      pen.stroke();
    }
    return;
  }
  [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [color, dark, 1.8];
  pen.fill();
  pen.stroke();
}

function polygon(pen, x, y, corners) {
  for (const [dx, dy] of corners) pen.lineTo(x + dx, y + dy);
  pen.closePath();
}

/** The corners of a cross with arms of a length and half width, rotated by an angle. */
function crossCorners(arm, half, angle) {
  const corners = [[half, -half], [arm, -half], [arm, half], [half, half]];
  return [0, 1, 2, 3].flatMap((quarter) => {
    const [c, s] = [Math.cos(angle + (quarter * Math.PI) / 2), Math.sin(angle + (quarter * Math.PI) / 2)];
    return corners.map(([dx, dy]) => [c * dx - s * dy, s * dx + c * dy]);
  });
}

function paintContour(panel, descents, cursor, box) {
  const frame = frameOf(panel);
  const pen = clearCanvas(panel, frame);
  for (const descent of descents) paintPath(pen, frame, descent, box);
  const [x, y] = [frame.x(cursor[0]), frame.y(cursor[1])];
  // The cursor is a crosshair with a ring, light on dark, visible on every color.
  for (const [style, width] of [["#000000", 4], ["#ffffff", 1.6]]) {
    [pen.strokeStyle, pen.lineWidth] = [style, width];
    pen.beginPath();
    pen.arc(x, y, 9, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [0, 1], [-1, 0], [0, -1]]) {
      pen.moveTo(x + 5 * dx, y + 5 * dy);
      pen.lineTo(x + 15 * dx, y + 15 * dy);
    }
    pen.stroke();
  }
}

function paintPath(pen, frame, descent, box) {
  const { color, shape } = descent.style;
  const points = drawnSteps(descent, box).map((k) => [frame.x(descent.w1[k]), frame.y(descent.w2[k])]);
  strokeLine(pen, points, color, 3);
  // Draw dots for the steps, without those that overlap.
  let last = points[0];
  for (const point of points.slice(1, -1)) {
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < 9) continue;
    last = point;
    drawShape(pen, shape, color, ...point, 3);
  }
  drawShape(pen, "circle", "#ffffff", ...points[0], 4.5);
  drawShape(pen, shape, color, ...points.at(-1), 7);
}

function paintLoss(panel, descents, scale) {
  const frame = frameOf(panel);
  const pen = clearCanvas(panel, frame);
  for (const descent of descents) {
    const pixels = (losses) =>
      thinLosses(losses).map(([step, loss]) => [frame.x(step), frame.y(heightOf(loss, scale))]);
    if (descent.test) strokeLine(pen, pixels(descent.test), descent.style.color, 1, [6, 5]);
    const points = pixels(descent.loss);
    strokeLine(pen, points, descent.style.color, 2);
    const [x, y] = points.at(-1);
    const { top, height, left, width } = frame;
    const inside = Math.min(Math.max(y, top + 7), top + height - 7);
    drawShape(pen, descent.style.shape, descent.style.color, Math.min(x, left + width - 7), inside, 6);
  }
}

/** Points [step, loss]; for long descents, the lowest and the highest loss of each block. */
function thinLosses(losses) {
  const size = Math.ceil(losses.length / MAX_LOSSES);
  const points = [];
  for (let start = 0; start < losses.length; start += size) {
    const end = Math.min(start + size, losses.length);
    let [low, high] = [start, start];
    for (let k = start; k < end; k++) {
      if (losses[k] < losses[low]) low = k;
      if (losses[k] > losses[high]) high = k;
    }
    const [first, second] = [Math.min(low, high), Math.max(low, high)];
    points.push([first, losses[first]]);
    if (second > first) points.push([second, losses[second]]);
  }
  const end = losses.length - 1;
  if (points.at(-1)[0] !== end) points.push([end, losses[end]]);
  return points;
}

function drawLossAxes(panel, steps, range, scale) {
  const ticks = logTicks(...range, scale);
  const layout = baseLayout({
    xaxis: axisLayout("step", [0, steps], { nticks: 6 }),
    yaxis: axisLayout("loss", range, { nticks: 6, ...ticks }),
  });
  const invisible = [{ x: [0], y: [range[0]], mode: "markers", marker: { opacity: 0 } }];
  return Plotly.react(panel.plot, invisible, layout, STATIC);
}

function drawData(panel, train, test) {
  const markers = ({ x, y }, color, symbol) => ({
    x,
    y,
    mode: "markers",
    marker: { color: themeColor(color), symbol, size: 5, opacity: 0.55 },
  });
  const traces = [markers(train, "data", "circle")];
  if (test) traces.push(markers(test, "test", "triangle-up"));
  const [across, up] = ["x", "y"].map((name) => dataRange(traces.flatMap((trace) => trace[name])));
  const layout = baseLayout({ xaxis: axisLayout("x", across), yaxis: axisLayout("y", up) });
  return Plotly.react(panel.plot, traces, layout, STATIC);
}

/** The range of the data, without outliers: the central 90 % and half of their range on each side. */
function dataRange(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const quantile = (q) => sorted[Math.round(q * (sorted.length - 1))];
  const width = quantile(0.95) - quantile(0.05);
  const low = Math.max(sorted[0], quantile(0.05) - 0.5 * width);
  const high = Math.min(sorted.at(-1), quantile(0.95) + 0.5 * width);
  const margin = 0.05 * (high - low || 1);
  return [low - margin, high + margin];
}

function paintFit(panel, descents, cursor) {
  const frame = frameOf(panel);
  const pen = clearCanvas(panel, frame);
  const x = linspace(...panel.plot._fullLayout.xaxis.range, CURVE_POINTS);
  const curve = (w1, w2) => x.map((value) => [frame.x(value), frame.y(predict(w1, w2, value))]);
  [pen.strokeStyle, pen.lineWidth] = [themeColor("ink"), 1.5];
  pen.setLineDash([5, 5]);
  pen.beginPath();
  for (const point of curve(...cursor)) pen.lineTo(...point);
  pen.stroke();
  for (const descent of descents) {
    const points = curve(descent.w1.at(-1), descent.w2.at(-1));
    strokeLine(pen, points, descent.style.color, 3);
    const position = Math.round(CURVE_POINTS * (0.82 - 0.06 * (descent.style.index % 6)));
    drawShape(pen, descent.style.shape, descent.style.color, ...points[position], 6);
  }
}
