/**
 * The equations, by the names that hwkit/diffusion.py and hwkit/solvers.py give them. Images are flat arrays of values
 * in [−1, 1], any number of them one after another; a step goes from time t to an earlier time s and knows no network.
 *
 * @typedef {Float32Array} Values
 * @typedef {[number, Values][]} Past (ᾱ, x̂_0) of the steps before, the latest last
 */

/** An array like `x` whose value i is f(i). @param {Values} x @param {(i: number) => number} f @returns {Values} */
function each(x, f) {
  const y = new Float32Array(x.length)
  for (let i = 0; i < x.length; i++) y[i] = f(i)
  return y
}

/**
 * x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε (Ho et al. 2020, eq. 4).
 * @param {Values} x_0 @param {number} alpha_bar_t @param {Values} eps
 */
export function q_sample(x_0, alpha_bar_t, eps) {
  const signal = Math.sqrt(alpha_bar_t),
    noise = Math.sqrt(1 - alpha_bar_t)
  return each(x_0, i => signal * x_0[i] + noise * eps[i])
}

/**
 * The network's output, whatever it predicts, as [x̂_0, ε̂] (Ho et al. 2020, eq. 15; Salimans & Ho 2022, §4).
 * @param {Values} output @param {Values} x_t @param {number} alpha_bar_t @param {string} prediction epsilon, x0 or v
 * @returns {[Values, Values]}
 */
export function predict_x0_eps(output, x_t, alpha_bar_t, prediction) {
  const signal = Math.sqrt(alpha_bar_t),
    noise = Math.sqrt(1 - alpha_bar_t)
  if (prediction === "epsilon") return [each(x_t, i => (x_t[i] - noise * output[i]) / signal), output]
  if (prediction === "x0") return [output, each(x_t, i => (x_t[i] - signal * output[i]) / noise)]
  return [each(x_t, i => signal * x_t[i] - noise * output[i]), each(x_t, i => noise * x_t[i] + signal * output[i])]
}

/** Each value kept between low and high. @param {Values} x @param {number} low @param {number} high */
export function clamp(x, low, high) {
  return each(x, i => Math.min(Math.max(x[i], low), high))
}

/**
 * x_s ~ p(x_s | x_t), the ancestral step (Ho et al. 2020, eq. 7), with the posterior variance. No noise when s = 0.
 * @param {Values} x_t @param {Values} x0_hat @param {Values} eps_hat
 * @param {number} alpha_bar_t @param {number} alpha_bar_s @param {Values} noise
 */
export function ddpm_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise) {
  const alpha = alpha_bar_t / alpha_bar_s,
    beta = 1 - alpha
  const of_x0 = (Math.sqrt(alpha_bar_s) * beta) / (1 - alpha_bar_t)
  const of_xt = (Math.sqrt(alpha) * (1 - alpha_bar_s)) / (1 - alpha_bar_t)
  if (alpha_bar_s === 1) return each(x_t, i => of_x0 * x0_hat[i] + of_xt * x_t[i])
  const sigma = Math.sqrt((beta * (1 - alpha_bar_s)) / (1 - alpha_bar_t))
  return each(x_t, i => of_x0 * x0_hat[i] + of_xt * x_t[i] + sigma * noise[i])
}

/**
 * x_s from x̂_0, the direction to x_t, and η σ of fresh noise (Song et al. 2021, eq. 12; σ from eq. 16).
 * @param {Values} x_t @param {Values} x0_hat @param {Values} eps_hat
 * @param {number} alpha_bar_t @param {number} alpha_bar_s @param {Values | null} [noise] @param {number} [eta]
 */
export function ddim_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise = null, eta = 0) {
  const sigma = eta * Math.sqrt(((1 - alpha_bar_s) / (1 - alpha_bar_t)) * (1 - alpha_bar_t / alpha_bar_s))
  const of_x0 = Math.sqrt(alpha_bar_s),
    of_eps = Math.sqrt(Math.max(1 - alpha_bar_s - sigma ** 2, 0))
  if (!(sigma > 0) || !noise) return each(x_t, i => of_x0 * x0_hat[i] + of_eps * eps_hat[i])
  return each(x_t, i => of_x0 * x0_hat[i] + of_eps * eps_hat[i] + sigma * noise[i])
}

/** λ = ½ log(ᾱ/(1−ᾱ)), half the logarithm of the signal-to-noise ratio. @param {number} alpha_bar */
export function log_snr(alpha_bar) {
  return 0.5 * Math.log(alpha_bar / (1 - alpha_bar))
}

/**
 * x_s by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM, with x̂_0 taken at mid-step. With η = 1 it is
 * SDE-DPM-Solver++(2M), which replaces noise by fresh noise. The step to s = 0 returns x̂_0.
 * @param {Values} x_t @param {Values} x0_hat @param {Values} eps_hat @param {number} alpha_bar_t
 * @param {number} alpha_bar_s @param {Values | null} [noise] @param {Past} [past] @param {number} [eta]
 */
export function dpm_solver_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise = null, past = [], eta = 0) {
  if (alpha_bar_s === 1) return x0_hat
  const lambda_t = log_snr(alpha_bar_t),
    h = log_snr(alpha_bar_s) - lambda_t
  let middle = x0_hat
  if (past.length) {
    const [alpha_bar_r, before] = past[past.length - 1]
    const slope = h / 2 / (lambda_t - log_snr(alpha_bar_r))
    middle = each(x_t, i => x0_hat[i] + (x0_hat[i] - before[i]) * slope)
  }
  const kept = Math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) * Math.exp(-(eta ** 2) * h)
  const of_x0 = -Math.sqrt(alpha_bar_s) * Math.expm1(-(1 + eta ** 2) * h)
  if (!(eta > 0) || !noise) return each(x_t, i => kept * x_t[i] + of_x0 * middle[i])
  const sigma = Math.sqrt(-(1 - alpha_bar_s) * Math.expm1(-2 * eta ** 2 * h))
  return each(x_t, i => kept * x_t[i] + of_x0 * middle[i] + sigma * noise[i])
}
