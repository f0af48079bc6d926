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


def pixels(page, colour, clip=None):
    """How many pixels of the page, or a part of it, have about this colour."""
    png = base64.b64encode(page.screenshot(clip=clip)).decode()
    return page.evaluate(COUNT_PIXELS, [png, *(int(colour[k : k + 2], 16) for k in (1, 3, 5))])
