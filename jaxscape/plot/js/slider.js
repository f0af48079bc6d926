// Where a press of the slider ends after a frame came and before it is drawn, plotly.js ends the
// drag of a slider that the figure no longer has: the one it has would follow nothing that plays.
(() => {
  const figure = document.getElementById("{plot_id}");
  figure.on("plotly_sliderend", () => {
    for (const slider of figure._fullLayout.sliders) slider._dragging = false;
  });
})();
