"""What tests look for on a page in a browser."""

import base64

COUNT_PIXELS = """
async ([png, red, green, blue]) => {
  const image = new Image();
  image.src = "data:image/png;base64," + png;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, image.width, image.height).data;
  let count = 0;
  for (let k = 0; k < data.length; k += 4)
    count += Math.abs(data[k] - red) + Math.abs(data[k + 1] - green)
      + Math.abs(data[k + 2] - blue) < 60;
  return count;
}
"""


def pixels(page, color, clip=None):
    """How many pixels of the page, or a part of it, have about this color."""
    png = base64.b64encode(page.screenshot(clip=clip)).decode()
    return page.evaluate(COUNT_PIXELS, [png, *(int(color[k : k + 2], 16) for k in (1, 3, 5))])


IN_SPACE = """
([selector, x, y, height]) => {
  const {_scene} = document.querySelector(selector)._fullLayout.scene;
  const {model, view, projection} = _scene.glplot.cameraParams;
  let point = [x, y, height].map((part, k) => part * _scene.dataScale[k]).concat(1);
  for (const matrix of [model, view, projection])
    point = [0, 1, 2, 3].map(i => point.reduce((sum, p, k) => sum + p * matrix[i + 4 * k], 0));
  const box = _scene.container.getBoundingClientRect();
  const [across, down] = [point[0] / point[3], -point[1] / point[3]];
  return [box.x + box.width * (1 + across) / 2, box.y + box.height * (1 + down) / 2];
}
"""


def in_space(page, figure, place):
    """Where on the page a place (x, y, height) of a figure's scene is seen."""
    return page.evaluate(IN_SPACE, [figure, *map(float, place)])
