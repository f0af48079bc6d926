"""Helpers of tests that open pages in a browser."""

import io

import numpy as np
from PIL import Image

TO_SCREEN = """
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


def scene_to_screen(page, figure, point):
    """Return the position on the page of a point (x, y, height) of a figure's scene."""
    return page.evaluate(TO_SCREEN, [figure, *map(float, point)])


def decode_png(png):
    """Return a PNG as an integer array, (height, width, 4)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


def has_color(image, color):
    """Return which pixels of an image have approximately a color."""
    rgb = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
    return (abs(image[..., :3] - rgb).sum(axis=2) < 60) & (image[..., 3] > 200)


def count_pixels(page, color, clip=None):
    """Return how many pixels of a page, or of a part of it, have approximately a color."""
    return int(has_color(decode_png(page.screenshot(clip=clip)), color).sum())
