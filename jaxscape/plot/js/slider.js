// Work around plotly.js: if the mouse is released after a frame arrives and before it is drawn,
// plotly.js ends the drag of an outdated slider object. The current slider would stay in its
// dragging state and no longer follow the animation.
(() => {
  const figure = document.getElementById("{plot_id}");
  figure.on("plotly_sliderend", () => {
    for (const slider of figure._fullLayout.sliders) slider._dragging = false;
  });
})();
