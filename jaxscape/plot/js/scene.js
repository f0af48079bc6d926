// In a window that is narrow for its height a scene is seen from further away: its sides are cut else.
{
  const figure = document.getElementById("{plot_id}");
  const {_size, scene} = figure._fullLayout;
  const across = (_size.w * (scene.domain.x[1] - scene.domain.x[0])) / _size.h;
  if (window.innerWidth < 600 && across < 1) {
    const {x, y, z} = scene.camera.eye;
    const far = 1.2 / across;
    Plotly.relayout(figure, {"scene.camera.eye": {x: far * x, y: far * y, z: far * z}});
  }
}
