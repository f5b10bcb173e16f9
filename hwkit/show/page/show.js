/** Small things that the sections share: pictures, the curve of a schedule, elements by name. */

import { Trouble } from "./network.js"
import { say } from "./words.js"

/** @param {string} id @returns {any} */
export const element = id => {
  const found = document.getElementById(id)
  if (!found) throw new Error(`no element ${id}`)
  return found
}

/** What was said last in which element. @type {Map<string, [string, Record<string, any>]>} */
const told = new Map()

/**
 * Says something in an element, in the language of the page.
 * @param {string} id @param {string} key @param {Record<string, any>} [values]
 */
export function tell(id, key, values = {}) {
  told.set(id, [key, values])
  element(id).removeAttribute("aria-busy")
  element(id).textContent = say(key, values)
}

/** Says how far work is: assistive technology waits for the next `tell`. @param {string} id @param {string} words */
export function doing(id, words) {
  told.delete(id)
  element(id).setAttribute("aria-busy", "true")
  element(id).textContent = words
}

/** Takes back what was said. @param {string} id */
export function hush(id) {
  doing(id, "")
  element(id).removeAttribute("aria-busy")
}

/** Says all of it again, in the other language. */
export function retell() {
  for (const [id, [key, values]] of told) tell(id, key, values)
}

/**
 * What went wrong, as `tell` takes it.
 * @param {unknown} error @param {string} [file] @returns {[string, Record<string, any>]}
 */
export function words_of(error, file = "ema_latest.safetensors") {
  const detail = error instanceof Error ? error.message : String(error)
  return [`trouble_${error instanceof Trouble ? error.key : "failed"}`, { file, detail }]
}

/** The number in an input, kept to its bounds. @param {string} id */
export function number(id) {
  const input = element(id),
    low = Number(input.min || 0),
    high = Number(input.max || Infinity)
  const value = Math.min(Math.max(Number(input.value) || 0, low), high)
  return input.step === "any" || input.step.includes(".") ? value : Math.round(value)
}

/** Whether the reader asked the system for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches

/** A 28×28 picture with a caption, in the page. */
export class Picture {
  /** @param {HTMLElement} parent @param {string} [caption] */
  constructor(parent, caption = "") {
    this.figure = document.createElement("figure")
    this.canvas = document.createElement("canvas")
    this.canvas.width = this.canvas.height = 28
    this.canvas.setAttribute("role", "img")
    this.caption = document.createElement("figcaption")
    this.figure.append(this.canvas, this.caption)
    parent.append(this.figure)
    this.say(caption)
  }

  /** @param {string} caption @param {string} [name] what assistive technology is told, else the caption */
  say(caption, name = caption) {
    this.caption.textContent = caption
    this.canvas.setAttribute("aria-label", name)
  }

  /** Image `n` of many RGB images in [−1, 1]. @param {ArrayLike<number>} x @param {number} [n] */
  draw(x, n = 0) {
    const image = new ImageData(28, 28),
      start = n * 2352
    for (let i = 0; i < 784; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = (x[start + 784 * c + i] + 1) * 127.5
      image.data[4 * i + 3] = 255
    }
    this.canvas.getContext("2d")?.putImageData(image, 0, 0)
  }

  clear() {
    this.canvas.getContext("2d")?.clearRect(0, 0, 28, 28)
  }

  /** As before anything was drawn and said. */
  forget() {
    this.clear()
    this.say("")
  }
}

/** `count` pictures in an element, which is emptied before. @param {string} id @param {number} count */
export function pictures(id, count) {
  const parent = element(id)
  parent.replaceChildren()
  return Array.from({ length: count }, () => new Picture(parent))
}

const SVG = "http://www.w3.org/2000/svg",
  LEFT = 40,
  RIGHT = 388,
  TOP = 12,
  BOTTOM = 172

/** The share of the image, √ᾱ_t, over the time, with a dot that moves on it. */
export class Curve {
  /** @param {HTMLElement} parent */
  constructor(parent) {
    this.svg = this.#add("svg", { viewBox: "0 0 400 230", role: "img" }, parent)
    for (const [share, word] of [
      [0, "0"],
      [0.5, "½"],
      [1, "1"],
    ]) {
      const y = this.#y(/** @type {number} */ (share))
      this.#add("line", { x1: LEFT, x2: RIGHT, y1: y, y2: y, class: "grid" })
      this.#add("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }).textContent = String(word)
    }
    this.ends = [LEFT, RIGHT].map(x =>
      this.#add("text", { x, y: BOTTOM + 18, "text-anchor": x === LEFT ? "start" : "end" }),
    )
    this.title = this.#add("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 34, "text-anchor": "middle" })
    this.legend = this.#add("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 52, "text-anchor": "middle" })
    this.lines = ["other", "curve"].map(name => this.#add("polyline", { class: name }))
    this.dot = this.#add("circle", { r: 6, class: "dot", cx: -20, cy: -20 })
  }

  /** @param {string} kind @param {Record<string, any>} attributes @param {Element} [parent] */
  #add(kind, attributes, parent = this.svg) {
    const made = document.createElementNS(SVG, kind)
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value))
    parent.append(made)
    return made
  }

  /** @param {number} share */
  #y(share) {
    return BOTTOM - share * (BOTTOM - TOP)
  }

  /**
   * @param {import("./schedule.js").Schedule} schedule
   * @param {import("./schedule.js").Schedule} [other] drawn behind it
   */
  draw(schedule, other) {
    this.T = Math.max(schedule.T, other?.T ?? 0)
    ;[other, schedule].forEach((each, k) => {
      const points = Array.from({ length: each ? 101 : 0 }, (_, i) => {
        const t = Math.round((i * (each?.T ?? 0)) / 100)
        return `${this.#x(t).toFixed(1)},${this.#y(Math.sqrt(each?.alpha_bar[t] ?? 0)).toFixed(1)}`
      })
      this.lines[k].setAttribute("points", points.join(" "))
    })
    this.ends[0].textContent = "t = 0"
    this.ends[1].textContent = `t = ${this.T}`
    this.title.textContent = say("curve")
    const drawn = `${say(schedule.name)}, T = ${schedule.T}`,
      behind = other ? `${say("own_schedule")}${say("colon")}${say(other.name)}, T = ${other.T}` : ""
    this.legend.textContent = other ? `— ${say("bent_schedule")}   ┄ ${say("own_schedule")}` : ""
    this.svg.setAttribute("aria-label", `${say("curve")}${say("colon")}${drawn}${behind && ` (${behind})`}`)
  }

  /** @param {number} t */
  #x(t) {
    return LEFT + (t / (this.T ?? 1)) * (RIGHT - LEFT)
  }

  /** @param {number} t @param {number} alpha_bar */
  move(t, alpha_bar) {
    this.dot.setAttribute("cx", this.#x(t).toFixed(1))
    this.dot.setAttribute("cy", this.#y(Math.sqrt(alpha_bar)).toFixed(1))
  }
}

/** A class in words. @param {number} best */
export const name_of = best => (best === 10 ? say("no_digit") : String(best))

/** The digit that an image is taken for, as words: "3 (98 %)". @param {number[]} probabilities */
export function digit(probabilities) {
  const best = likeliest(probabilities)
  return `${name_of(best)} (${Math.round(100 * probabilities[best])}\u00a0%)`
}

/** The root mean square difference. @param {Float32Array} a @param {Float32Array} b */
export const rms = (a, b) => Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length)

/** The number of the likeliest class. @param {number[]} probabilities */
export const likeliest = probabilities => probabilities.indexOf(Math.max(...probabilities))

/** A number with three digits that count. @param {number} x */
export function three(x) {
  return x >= 1000
    ? Math.round(x).toLocaleString("en")
    : x >= 0.001 || x === 0
      ? String(Number(x.toPrecision(3)))
      : x.toExponential(1)
}
