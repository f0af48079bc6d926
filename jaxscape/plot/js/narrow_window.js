// Move the camera back in a narrow window, so that the scene is not cut off at its sides.
{
  const figure = document.getElementById("{plot_id}");
  const {_size, scene} = figure._fullLayout;
  const aspect = (_size.w * (scene.domain.x[1] - scene.domain.x[0])) / _size.h;
  if (window.innerWidth < 600 && aspect < 1) {
    const {x, y, z} = scene.camera.eye;
    const factor = 1.2 / aspect;
    Plotly.relayout(figure, {"scene.camera.eye": {x: factor * x, y: factor * y, z: factor * z}});
  }
}
