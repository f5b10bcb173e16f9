/** The noise schedule: ᾱ_0 … ᾱ_T, from which everything else follows. Mirrors hwkit/schedule.py, by the same names. */

export class Schedule {
  /** @param {string} name @param {Float64Array} alpha_bar (T + 1) values that fall from 1 towards 0 */
  constructor(name, alpha_bar) {
    this.name = name
    this.alpha_bar = alpha_bar
  }

  /** The number of noise levels; x_T is the noisiest state. */
  get T() {
    return this.alpha_bar.length - 1
  }

  /** @param {number} t */
  snr(t) {
    return this.alpha_bar[t] / (1 - this.alpha_bar[t])
  }

  /** The time at which the share of the image is nearest to that of `alpha_bar`; never 0. @param {number} alpha_bar */
  time_of(alpha_bar) {
    let low = 1,
      high = this.T
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (this.alpha_bar[middle] > alpha_bar) low = middle
      else high = middle
    }
    return this.alpha_bar[low] - alpha_bar < alpha_bar - this.alpha_bar[high] ? low : high
  }
}

/**
 * β_1 … β_T in equal steps from beta_start to beta_end (Ho et al. 2020, §4).
 * @param {number} T @param {number} [beta_start] @param {number} [beta_end]
 */
export function linear(T, beta_start = 1e-4, beta_end = 2e-2) {
  const beta = new Float64Array(T)
  for (let i = 0; i < T; i++) beta[i] = T > 1 ? beta_start + ((beta_end - beta_start) * i) / (T - 1) : beta_start
  return new Schedule("linear", from_betas(beta))
}

/**
 * ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2), β capped at beta_max (Nichol & Dhariwal 2021, eq. 17).
 * @param {number} T @param {number} [s] @param {number} [beta_max]
 */
export function cosine(T, s = 0.008, beta_max = 0.999) {
  const f = Float64Array.from({ length: T + 1 }, (_, t) => Math.cos(((t / T + s) / (1 + s)) * (Math.PI / 2)) ** 2)
  const beta = Float64Array.from({ length: T }, (_, i) => Math.min(1 - f[i + 1] / f[i], beta_max))
  return new Schedule("cosine", from_betas(beta))
}

/** @type {Record<string, (T: number, start?: number, end?: number) => Schedule>} */
export const SCHEDULES = { linear, cosine: T => cosine(T) }

/** @param {Float64Array} beta */
function from_betas(beta) {
  const alpha_bar = new Float64Array(beta.length + 1)
  alpha_bar[0] = 1
  for (let t = 1; t <= beta.length; t++) alpha_bar[t] = alpha_bar[t - 1] * (1 - beta[t - 1])
  return alpha_bar
}
