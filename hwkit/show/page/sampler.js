/** Section "sample": two samplers from one noise, side by side; pause anywhere, and scrub back. */

import { Curve, Picture, calm, digit, doing, element, number, tell, three } from "./show.js"
import { ETA } from "./sampling.js"
import { say } from "./words.js"

const SIDES = ["a", "b"]

export class SampleSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.pictures = SIDES.map(side => [new Picture(element(`sample-${side}`)), new Picture(element(`sample-${side}`))])
    this.curve = new Curve(element("sample-curve"))
    /** @type {any[][]} */
    this.frames = [[], []]
    /** @type {import("./engine.js").Job[]} */
    this.jobs = []
    this.at = 0
    this.paused = false
    /** Which new frames are shown: none, once the reader has chosen one. @type {"all" | "last" | "none"} */
    this.follows = "all"
    element("sample-run").onclick = () => this.run()
    element("sample-pause").onclick = () => this.pause(!this.paused)
    element("sample-t").oninput = (/** @type {any} */ event) => this.show(Number(event.target.value))
    for (const name of ["sampler-a", "sampler-b", "steps", "eta", "seed", "image"]) {
      element(`sample-${name}`).onchange = () => this.run()
    }
    element("sample-eta").oninput = () => this.label()
    this.label()
  }

  /** @param {number} side */
  sampler(side) {
    const name = element(`sample-sampler-${SIDES[side]}`).value,
      steps = Number(element("sample-steps").value)
    return { name, steps: steps || this.page.T, eta: name === "ddim" ? number("sample-eta") : (ETA[name] ?? 0) }
  }

  label() {
    element("sample-eta-value").textContent = number("sample-eta").toFixed(1)
    SIDES.forEach((_, side) => this.name(side))
    element("sample-pause").textContent = say(this.paused ? "go_on" : "pause")
    this.curve.draw(this.page.schedule)
  }

  /** What the two pictures of a side are; their t, which may differ from the other side's. @param {number} side @param {number} [t] */
  name(side, t) {
    const sampler = element(`sample-sampler-${SIDES[side]}`).selectedOptions[0].textContent,
      when = t === undefined ? "" : `, t = ${t}`
    this.pictures[side].forEach((picture, k) => picture.say(`${sampler}${say("colon")}${k ? "x̂₀" : "xₜ"}${when}`))
  }

  /** Starts anew with what is chosen. */
  run() {
    this.jobs.forEach(job => job.stop())
    this.frames = [[], []]
    this.at = 0
    this.paused = false
    this.follows = calm() ? "last" : "all"
    this.label()
    const seed = number("sample-seed"),
      numbers = [number("sample-image")]
    this.jobs = SIDES.map((_, side) => {
      const job = this.page.engine.ask("sample", { sampler: this.sampler(side), seed, numbers }, frame =>
        this.took(side, frame),
      )
      job.done.then(
        () => this.ended(),
        error => this.failed(error),
      )
      return job
    })
    this.buttons(true)
  }

  /** @param {number} side @param {any} frame */
  took(side, frame) {
    this.frames[side].push(frame)
    const range = element("sample-t")
    range.max = String(frame.of - 1)
    const both = Math.min(this.frames[0].length, this.frames[1].length)
    if (!both && this.frames[side].length > 1) return
    if (this.follows === "all" || (this.follows === "last" && frame.last)) {
      this.show(Math.max(both, 1) - 1, this.follows)
    }
    doing("sample-said", say("step", { step: this.frames[side].length, of: frame.of }))
  }

  ended() {
    const ends = this.frames.map(frames => frames[frames.length - 1])
    if (!ends.every(frame => frame?.last)) return
    this.buttons(false)
    const [left, right] = ends.map(frame => () => digit(frame.classes[0]))
    tell("sample-said", "sample_result", { left, right })
    this.page.showed()
  }

  /** @param {unknown} error */
  failed(error) {
    this.buttons(false)
    this.page.trouble(error, "sample-said")
  }

  /** @param {boolean} on */
  pause(on) {
    this.paused = on
    for (const job of this.jobs) on ? job.pause() : job.go()
    if (!on) this.follows = calm() ? "last" : "all"
    this.label()
  }

  /** @param {boolean} working */
  buttons(working) {
    element("sample-pause").disabled = !working
  }

  /** Shows frame `at` of both. @param {number} at @param {"all" | "last" | "none"} [follows] */
  show(at, follows = "none") {
    this.follows = follows
    const known = Math.min(...this.frames.map(frames => Math.max(frames.length, 1))) - 1
    this.at = Math.min(at, known)
    this.frames.forEach((frames, side) => {
      const frame = frames[this.at]
      if (!frame) return this.pictures[side].forEach(picture => picture.clear())
      this.pictures[side][0].draw(frame.x_t)
      this.pictures[side][1].draw(frame.x0_hat)
      this.name(side, frame.t)
    })
    const frame = this.frames[0][this.at] ?? this.frames[1][this.at]
    if (!frame) return
    const range = element("sample-t"),
      { t, alpha_bar } = frame,
      T = this.page.T
    range.value = String(this.at)
    range.setAttribute("aria-valuetext", `t = ${t}`)
    const snr = t ? three(alpha_bar / (1 - alpha_bar)) : "∞"
    const share = `${say("share")} √ᾱₜ = ${(100 * Math.sqrt(alpha_bar)).toFixed(1)} %`
    const [left, right] = this.frames.map(frames => frames[this.at]?.t ?? t)
    const whose = left === right ? "" : `${say("sampler_left")}${say("colon")}`
    element("sample-numbers").textContent =
      `${whose}t = ${t} / ${T} · ᾱₜ = ${three(alpha_bar)} · SNR = ${snr} · ${share}`
    this.curve.move(t, alpha_bar)
    this.page.state(this.state())
  }

  /** The state of the left sampler that is on the screen. */
  state() {
    return this.frames[0][this.at] ?? null
  }

  /** Offers as many steps as fit T. */
  offer() {
    for (const option of element("sample-steps").options) option.disabled = Number(option.value) > this.page.T
    element("sample-steps").querySelector("[value='0']").textContent = `T = ${this.page.T}`
    if (element("sample-steps").selectedOptions[0]?.disabled) element("sample-steps").value = "0"
  }
}
