// Link the panels of a figure. The cameras of several scenes turn together. For a surface next to its
// contour plot, a marker in one panel shows the point under the mouse in the other.
(() => {
  const figure = document.getElementById("{plot_id}");
  const {log, names} = figure.layout.meta.linked;
  const scenes = Object.keys(figure._fullLayout).filter((key) => /^scene\d*$/.test(key));

  // Cameras. While an update runs, only the latest of the waiting ones is kept.
  let waiting = null;
  let busy = false;
  const turn = async (event) => {
    const turned = Object.keys(event).filter((key) => /^scene\d*\.camera$/.test(key));
    // Updates made here change the cameras of all scenes; those of the user change one.
    if (turned.length !== 1) return;
    waiting = Object.fromEntries(scenes.map((scene) => [scene + ".camera", event[turned[0]]]));
    if (busy) return;
    busy = true;
    while (waiting) {
      const cameras = waiting;
      waiting = null;
      await Plotly.relayout(figure, cameras);
    }
    busy = false;
  };
  if (scenes.length > 1) {
    figure.on("plotly_relayouting", turn);
    figure.on("plotly_relayout", turn);
    return;
  }

  // The marker is an element above the figure, so that moving it redraws nothing.
  const marker = document.createElement("div");
  marker.className = "linked-marker";
  marker.style.cssText = "position:absolute;display:none;pointer-events:none;z-index:5;" +
    "width:12px;height:12px;margin:-9px;border:3px solid #d55e00;border-radius:50%;" +
    "box-shadow:0 0 0 2px white, inset 0 0 0 2px white";
  const label = document.createElement("div");
  label.style.cssText = "position:absolute;left:20px;top:-20px;padding:3px 6px;white-space:pre;" +
    "font:13px/1.3 sans-serif;color:#222;background:rgba(255,255,255,.9);border:1px solid #999";
  marker.append(label);
  figure.querySelector(".svg-container").append(marker);

  // Screen coordinates of a point of the scene, computed as plotly.js does for annotations.
  const onScene = (x, y, height) => {
    const {glplot, dataScale, container} = figure._fullLayout.scene._scene;
    const {model, view, projection} = glplot.cameraParams;
    let point = [x * dataScale[0], y * dataScale[1], height * dataScale[2], 1];
    for (const matrix of [model, view, projection])
      point = [0, 1, 2, 3].map((i) => point.reduce((sum, p, k) => sum + p * matrix[i + 4 * k], 0));
    const box = container.getBoundingClientRect();
    const [across, down] = [point[0] / point[3], -point[1] / point[3]];
    return [box.x + (box.width * (1 + across)) / 2, box.y + (box.height * (1 + down)) / 2];
  };
  // Screen coordinates of a point of the contour plot.
  const onContour = (x, y) => {
    const {xaxis, yaxis} = figure._fullLayout;
    const box = figure.getBoundingClientRect();
    return [box.x + xaxis._offset + xaxis.l2p(x), box.y + yaxis._offset + yaxis.l2p(y)];
  };

  figure.on("plotly_hover", (event) => {
    const {x, y, z, data, customdata} = event.points[0];
    const isCell = data.type === "surface" || data.type === "heatmap";
    const loss = isCell ? (log ? 10 ** z : z) : customdata?.[0];
    if (!Number.isFinite(loss)) return;
    const in3d = data.type === "surface" || data.type === "scatter3d";
    const [left, top] = in3d ? onContour(x, y) : onScene(x, y, log ? Math.log10(loss) : loss);
    const box = marker.parentNode.getBoundingClientRect();
    Object.assign(marker.style, {left: `${left - box.x}px`, top: `${top - box.y}px`, display: "block"});
    const values = [[names[0], x], [names[1], y], ["loss", loss]];
    label.textContent = values.map(([name, value]) => `${name} ${+value.toPrecision(5)}`).join("\n");
  });
  for (const event of ["plotly_unhover", "plotly_relayouting", "plotly_relayout"])
    figure.on(event, () => { marker.style.display = "none"; });
})();
