/** The reverse process: noise in, frames out, over any step. Mirrors hwkit/sampling.py, by the same names. */

import { ddim_step, ddpm_step, dpm_solver_step } from "./steps.js"

/**
 * @typedef {import("./steps.js").Values} Values
 * @typedef {import("./steps.js").Past} Past
 * @typedef {{t: number, x_t: Values, x0_hat: Values}} Frame one state, and the clean image predicted from it
 * @typedef {(x_t: Values, x0_hat: Values, eps_hat: Values, alpha_bar_t: number, alpha_bar_s: number,
 *   noise: Values | null, past: Past) => Values} Step
 * @typedef {{name: string, steps: number, eta: number}} Sampler
 */

/** Fresh noise by default, of the samplers that have the choice. @type {Record<string, number>} */
export const ETA = { ddim: 0, "dpm++sde": 1 }

/**
 * `steps` + 1 falling times from T to 0, both included, evenly spaced.
 * @param {number} T @param {number} steps
 */
export function times(T, steps) {
  if (!(steps >= 1 && steps <= T)) throw new RangeError(`${steps} steps do not fit T = ${T}`)
  const stride = -T / steps
  return Array.from({ length: steps + 1 }, (_, i) =>
    round_to_even(2 * i < steps + 1 ? T + stride * i : -stride * (steps - i)),
  )
}

/** As torch and Python round: halves to the even neighbour. @param {number} x */
function round_to_even(x) {
  const low = Math.floor(x),
    part = x - low
  return part < 0.5 || (part === 0.5 && low % 2 === 0) ? low : low + 1
}

/** The step function of a sampler. @param {Sampler} sampler @returns {Step} */
export function step_of({ name, eta }) {
  if (name === "ddpm") return (x, x0, eps, t, s, noise) => ddpm_step(x, x0, eps, t, s, /** @type {Values} */ (noise))
  if (name === "ddim") return (x, x0, eps, t, s, noise) => ddim_step(x, x0, eps, t, s, noise, eta)
  return (x, x0, eps, t, s, noise, past) => dpm_solver_step(x, x0, eps, t, s, noise, past, eta)
}

/** Whether its steps add fresh noise. @param {Sampler} sampler */
export function needs_noise({ name, eta }) {
  return name === "ddpm" || eta > 0
}

/**
 * Yields a frame at each of `times`: the noisiest first, the images last (Ho et al. 2020, algorithm 2).
 * @param {(x_t: Values, t: number, s: number) => Promise<[Values, Values]>} denoise gives x̂_0 and ε̂
 * @param {Values} x_T @param {number[]} times @param {ArrayLike<number>} alpha_bar @param {Step} step
 * @param {(() => Values) | null} noise @returns {AsyncGenerator<Frame>}
 */
export async function* sample(denoise, x_T, times, alpha_bar, step, noise = null) {
  let x_t = x_T
  /** @type {Past} */
  let past = []
  for (let i = 0; i + 1 < times.length; i++) {
    const t = times[i],
      s = times[i + 1]
    const [x0_hat, eps_hat] = await denoise(x_t, t, s)
    yield { t, x_t, x0_hat }
    x_t = step(x_t, x0_hat, eps_hat, alpha_bar[t], alpha_bar[s], noise && noise(), past)
    past = [...past.slice(-1), [alpha_bar[t], x0_hat]]
  }
  yield { t: times[times.length - 1], x_t, x0_hat: x_t }
}
