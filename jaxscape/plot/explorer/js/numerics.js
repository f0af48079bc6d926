// The loss, its gradient and the optimizers: numbers alone, nothing of the page.

/** Little-endian float64 numbers from base64. */
function float64s(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float64Array(bytes.buffer);
}

/** Polynomials of floor, curvature and lowest point along w1, as the room `panels` made them. */
function readPanels(packed) {
  return {
    scale: packed.scale,
    terms: packed.terms,
    ends: float64s(packed.ends),
    coefficients: float64s(packed.coefficients),
    limits: float64s(packed.limits),
  };
}

/** The first panel that ends at `size` or beyond; as many as there are panels if none does. */
function panelOf(ends, size) {
  let [low, high] = [0, ends.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] < size) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * What the loss is along a row of equal w1: floor + curvature·(t·w2 − lowest)², t = tanh(w1·scale).
 * Floor, curvature and lowest are even in w1; each comes with its derivative by w1.
 */
function rowAt(panels, w1) {
  const { scale, terms, ends, coefficients, limits } = panels;
  const size = Math.abs(w1);
  const row = { t: Math.tanh(w1 * scale), dt: scale / Math.cosh(w1 * scale) ** 2 };
  const names = ["floor", "curvature", "lowest"];
  const panel = panelOf(ends, size);
  if (!(panel < ends.length)) {
    names.forEach((name, k) => {
      row[name] = limits[k];
      row["d" + name] = 0;
    });
    return row;
  }
  const start = panel ? ends[panel - 1] : 0;
  const place = (2 * (size - start)) / (ends[panel] - start) - 1;
  const inner = (Math.sign(w1) * 2) / (ends[panel] - start);
  names.forEach((name, k) => {
    const first = (3 * panel + k) * terms;
    const [value, slope] = chebyshev(coefficients, first, terms, place);
    row[name] = value;
    row["d" + name] = slope * inner;
  });
  return row;
}

/** A Chebyshev sum at `place` in [−1, 1] and its derivative, by Clenshaw's recurrence. */
function chebyshev(coefficients, first, terms, place) {
  let [b1, b2, d1, d2] = [0, 0, 0, 0];
  for (let k = terms - 1; k > 0; k--) {
    [d1, d2] = [2 * b1 + 2 * place * d1 - d2, d1];
    [b1, b2] = [coefficients[first + k] + 2 * place * b1 - b2, b1];
  }
  return [coefficients[first] + place * b1 - b2, b1 + place * d1 - d2];
}

/** The mean squared error. */
function lossAt(panels, w1, w2) {
  return lossIn(rowAt(panels, w1), w2);
}

/** The mean squared error at w2 in a row. */
function lossIn(row, w2) {
  return row.floor + row.curvature * (row.t * w2 - row.lowest) ** 2;
}

/** The mean squared error and its derivatives by w1 and w2. */
function lossAndGradient(panels, w1, w2) {
  const row = rowAt(panels, w1);
  const distance = row.t * w2 - row.lowest;
  const byDistance = 2 * row.curvature * distance;
  return {
    loss: lossIn(row, w2),
    gradient: [
      row.dfloor + row.dcurvature * distance ** 2 + byDistance * (row.dt * w2 - row.dlowest),
      byDistance * row.t,
    ],
  };
}

/** The prediction at x. */
function predict(w1, w2, x) {
  return w2 * Math.tanh(w1 * x);
}

// Each as optax has it (0.2, defaults): from its memory, the gradient and the momentum, the
// direction of which learning rate times is subtracted.
const OPTIMIZERS = {
  gd: {
    name: "Gradient descent",
    direction: (_, gradient) => gradient,
  },
  momentum: {
    name: "Momentum",
    momentum: "Momentum β",
    direction(memory, gradient, momentum) {
      memory.trace = gradient.map((g, k) => g + momentum * memory.trace[k]);
      return memory.trace;
    },
  },
  nesterov: {
    name: "Nesterov",
    momentum: "Momentum β",
    direction(memory, gradient, momentum) {
      memory.trace = gradient.map((g, k) => g + momentum * memory.trace[k]);
      return gradient.map((g, k) => g + momentum * memory.trace[k]);
    },
  },
  rmsprop: {
    name: "RMSProp",
    direction(memory, gradient) {
      memory.square = gradient.map((g, k) => 0.9 * memory.square[k] + 0.1 * g * g);
      return gradient.map((g, k) => g / Math.sqrt(memory.square[k] + 1e-8));
    },
  },
  adam: {
    name: "Adam",
    momentum: "Momentum β (Adam’s β₁)",
    direction(memory, gradient, momentum) {
      memory.count += 1;
      memory.trace = gradient.map((g, k) => momentum * memory.trace[k] + (1 - momentum) * g);
      memory.square = gradient.map((g, k) => 0.999 * memory.square[k] + 0.001 * g * g);
      const first = 1 - momentum ** memory.count;
      const second = 1 - 0.999 ** memory.count;
      return gradient.map(
        (_, k) => memory.trace[k] / first / (Math.sqrt(memory.square[k] / second) + 1e-8),
      );
    },
  },
};

/** A descent at its start: `settings` are optimizer, rate, momentum, and `start` its [w1, w2]. */
function newDescent(panels, settings, start) {
  return {
    settings,
    panels,
    memory: { count: 0, trace: [0, 0], square: [0, 0] },
    w1: [start[0]],
    w2: [start[1]],
    loss: [lossAt(panels, ...start)],
    diverged: null,
  };
}

/** One step; a loss or a weight that is not finite ends the descent, and its step is kept. */
function advance(descent) {
  const { settings, panels, memory } = descent;
  const [w1, w2] = [descent.w1.at(-1), descent.w2.at(-1)];
  const { loss, gradient } = lossAndGradient(panels, w1, w2);
  const direction = OPTIMIZERS[settings.optimizer].direction(memory, gradient, settings.momentum);
  const next = [w1 - settings.rate * direction[0], w2 - settings.rate * direction[1]];
  descent.gradient = Math.hypot(...gradient);
  if (![loss, ...next].every(Number.isFinite)) {
    descent.diverged = descent.w1.length;
    return;
  }
  descent.w1.push(next[0]);
  descent.w2.push(next[1]);
  descent.loss.push(lossAt(panels, ...next));
}

/** A descent of so many steps at once, or fewer if it diverges. */
function descend(panels, settings, start, steps) {
  const descent = newDescent(panels, settings, start);
  while (descent.w1.length <= steps && descent.diverged === null) advance(descent);
  return descent;
}
