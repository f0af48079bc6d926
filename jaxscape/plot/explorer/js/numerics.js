// The explorer's computations: the loss, its gradient and the optimizers.

/** Decode little-endian float64 numbers from base64. */
function float64s(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float64Array(bytes.buffer);
}

/** Decode the piecewise polynomials that `polynomials.py` computed for a data set. */
function readPolynomials(packed) {
  return {
    scale: packed.scale,
    terms: packed.terms,
    ends: float64s(packed.ends),
    coefficients: float64s(packed.coefficients),
    limits: float64s(packed.limits),
  };
}

/** The index of the first interval with an end ≥ `size`; the number of intervals if there is none. */
function intervalOf(ends, size) {
  let [low, high] = [0, ends.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] < size) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The parabola of the loss over w2 at a value of w1, with derivatives by w1 (names with d):
 * floor + curvature·(t·w2 − center)², t = tanh(w1·scale). All but t are even in w1.
 */
function parabolaAt(polynomials, w1) {
  const { scale, terms, ends, coefficients, limits } = polynomials;
  const size = Math.abs(w1);
  const parabola = { t: Math.tanh(w1 * scale), dt: scale / Math.cosh(w1 * scale) ** 2 };
  const names = ["floor", "curvature", "center"];
  const interval = intervalOf(ends, size);
  if (!(interval < ends.length)) {
    names.forEach((name, k) => {
      parabola[name] = limits[k];
      parabola["d" + name] = 0;
    });
    return parabola;
  }
  const start = interval ? ends[interval - 1] : 0;
  const position = (2 * (size - start)) / (ends[interval] - start) - 1;
  const inner = (Math.sign(w1) * 2) / (ends[interval] - start);
  names.forEach((name, k) => {
    const first = (3 * interval + k) * terms;
    const [value, slope] = chebyshev(coefficients, first, terms, position);
    parabola[name] = value;
    parabola["d" + name] = slope * inner;
  });
  return parabola;
}

/** A Chebyshev sum at `position` in [−1, 1] and its derivative, by Clenshaw's recurrence. */
function chebyshev(coefficients, first, terms, position) {
  let [b1, b2, d1, d2] = [0, 0, 0, 0];
  for (let k = terms - 1; k > 0; k--) {
    [d1, d2] = [2 * b1 + 2 * position * d1 - d2, d1];
    [b1, b2] = [coefficients[first + k] + 2 * position * b1 - b2, b1];
  }
  return [coefficients[first] + position * b1 - b2, b1 + position * d1 - d2];
}

/** The mean squared error. */
function lossAt(polynomials, w1, w2) {
  return lossOnParabola(parabolaAt(polynomials, w1), w2);
}

/** The mean squared error at w2, given the parabola at w1. */
function lossOnParabola(parabola, w2) {
  return parabola.floor + parabola.curvature * (parabola.t * w2 - parabola.center) ** 2;
}

/** The mean squared error and its derivatives by w1 and w2. */
function lossAndGradient(polynomials, w1, w2) {
  const parabola = parabolaAt(polynomials, w1);
  const { t, dt, curvature } = parabola;
  const distance = t * w2 - parabola.center;
  const byDistance = 2 * curvature * distance;
  return {
    loss: lossOnParabola(parabola, w2),
    gradient: [
      parabola.dfloor + parabola.dcurvature * distance ** 2 + byDistance * (dt * w2 - parabola.dcenter),
      byDistance * t,
    ],
  };
}

/** The network's prediction at x. */
function predict(w1, w2, x) {
  return w2 * Math.tanh(w1 * x);
}

// The optimizers of optax 0.2 with their default values. `direction` updates the optimizer's state
// and returns a vector; a step subtracts the learning rate times this vector from the weights.
const OPTIMIZERS = {
  gd: {
    name: "Gradient descent",
    direction: (_, gradient) => gradient,
  },
  momentum: {
    name: "Momentum",
    momentum: "Momentum β",
    direction(state, gradient, momentum) {
      state.trace = gradient.map((g, k) => g + momentum * state.trace[k]);
      return state.trace;
    },
  },
  nesterov: {
    name: "Nesterov",
    momentum: "Momentum β",
    direction(state, gradient, momentum) {
      state.trace = gradient.map((g, k) => g + momentum * state.trace[k]);
      return gradient.map((g, k) => g + momentum * state.trace[k]);
    },
  },
  rmsprop: {
    name: "RMSProp",
    direction(state, gradient) {
      state.square = gradient.map((g, k) => 0.9 * state.square[k] + 0.1 * g * g);
      return gradient.map((g, k) => g / Math.sqrt(state.square[k] + 1e-8));
    },
  },
  adam: {
    name: "Adam",
    momentum: "Momentum β (Adam’s β₁)",
    direction(state, gradient, momentum) {
      state.count += 1;
      state.trace = gradient.map((g, k) => momentum * state.trace[k] + (1 - momentum) * g);
      state.square = gradient.map((g, k) => 0.999 * state.square[k] + 0.001 * g * g);
      const first = 1 - momentum ** state.count;
      const second = 1 - 0.999 ** state.count;
      return gradient.map(
        (_, k) => state.trace[k] / first / (Math.sqrt(state.square[k] / second) + 1e-8),
      );
    },
  },
};

/** A new descent at its start [w1, w2]; `settings` are optimizer, rate and momentum. */
function newDescent(polynomials, settings, start) {
  return {
    settings,
    polynomials,
    optimizerState: { count: 0, trace: [0, 0], square: [0, 0] },
    w1: [start[0]],
    w2: [start[1]],
    loss: [lossAt(polynomials, ...start)],
    diverged: null,
  };
}

/** Take one step. If the loss before it or a weight after it is not finite, only record that. */
function advance(descent) {
  const { settings, polynomials, optimizerState } = descent;
  const [w1, w2] = [descent.w1.at(-1), descent.w2.at(-1)];
  const { loss, gradient } = lossAndGradient(polynomials, w1, w2);
  const { direction } = OPTIMIZERS[settings.optimizer];
  const vector = direction(optimizerState, gradient, settings.momentum);
  const next = [w1 - settings.rate * vector[0], w2 - settings.rate * vector[1]];
  descent.gradient = Math.hypot(...gradient);
  if (![loss, ...next].every(Number.isFinite)) {
    descent.diverged = descent.w1.length;
    return;
  }
  descent.w1.push(next[0]);
  descent.w2.push(next[1]);
  descent.loss.push(lossAt(polynomials, ...next));
}

/** A descent of `steps` steps, or fewer if it diverges. */
function descend(polynomials, settings, start, steps) {
  const descent = newDescent(polynomials, settings, start);
  while (descent.w1.length <= steps && descent.diverged === null) advance(descent);
  return descent;
}
