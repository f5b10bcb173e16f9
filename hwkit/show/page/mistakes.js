/** The mistakes that people make when they write a sampler, each as a small change of the right one. */

import { clamp, predict_x0_eps } from "./steps.js"
import { times } from "./sampling.js"

/**
 * @typedef {import("./steps.js").Values} Values
 * @typedef {import("./sampling.js").Step} Step
 * @typedef {"noise" | "range" | "strides" | "clip" | "shift"} Mistake
 */

/** @type {Mistake[]} */
export const MISTAKES = ["noise", "range", "strides", "clip", "shift"]

/** "strides": T // steps as the stride, so that the list ends above 0. @param {number} T @param {number} steps */
export function strided(T, steps) {
  const stride = Math.floor(T / steps)
  return Array.from({ length: steps + 1 }, (_, i) => T - stride * i)
}

/**
 * The times that a sampler goes through.
 * @param {number} T @param {number} steps @param {Mistake[]} made
 */
export function times_with(T, steps, made) {
  return made.includes("strides") ? strided(T, steps) : times(T, steps)
}

/** "noise": √β of noise after the last step too. @param {Step} step @param {Mistake[]} made @returns {Step} */
export function step_with(step, made) {
  if (!made.includes("noise")) return step
  return (x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, past) => {
    const x_s = step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, past)
    if (alpha_bar_s !== 1 || !noise) return x_s
    const sigma = Math.sqrt(1 - alpha_bar_t)
    return x_s.map((x, i) => x + sigma * noise[i])
  }
}

/**
 * x̂_0 and ε̂ as the sampler gets them: clipped to [−1, 1] ("clip": not at all; "range": to [0, 1]).
 * @param {Values} output @param {Values} x_t @param {number} alpha_bar_t @param {string} prediction
 * @param {Mistake[]} made @returns {[Values, Values]}
 */
export function predict_with(output, x_t, alpha_bar_t, prediction, made) {
  const found = predict_x0_eps(output, x_t, alpha_bar_t, prediction)
  if (made.includes("clip") && !made.includes("range")) return found
  return predict_x0_eps(clamp(found[0], made.includes("range") ? 0 : -1, 1), x_t, alpha_bar_t, "x0")
}
