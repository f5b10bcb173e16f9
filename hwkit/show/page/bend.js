/** Section "bend": another schedule for the same network, which is told the time at which its own has as much noise. */

import { Curve, Picture, calm, digit, element, number, pictures, tell } from "./show.js"
import { SCHEDULES } from "./schedule.js"
import { ImageNoise } from "./noise.js"
import { q_sample } from "./steps.js"
import { say } from "./words.js"

const COLUMNS = 8,
  TOO_MUCH = 0.05 // of √ᾱ_T: x_T is then no longer like the noise that sampling begins with

export class BendSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.curve = new Curve(element("bend-curve"))
    this.strip = pictures("bend-strip", COLUMNS)
    this.results = [new Picture(element("bend-results")), new Picture(element("bend-results"))]
    this.seed = 0
    /** What the ends are taken for. @type {(number[] | null)[]} */
    this.classes = [null, null]
    /** @type {import("./engine.js").Job[]} */
    this.jobs = []
    for (const id of ["bend-name", "bend-T", "bend-start", "bend-end"]) element(id).oninput = () => this.show()
    element("bend-run").onclick = () => this.run()
    this.label()
  }

  label() {
    this.results.forEach((result, side) => {
      const word = say(side ? "bent_schedule" : "own_schedule"),
        classes = this.classes[side]
      result.say(classes ? `${word}${say("colon")}${digit(classes)}` : word)
    })
  }

  bent() {
    const start = 10 ** number("bend-start"),
      end = Math.max(10 ** number("bend-end"), start)
    return { name: element("bend-name").value, T: number("bend-T"), start, end }
  }

  schedule() {
    const { name, T, start, end } = this.bent()
    return SCHEDULES[name](T, start, end)
  }

  show() {
    const { name, T, start, end } = this.bent(),
      schedule = this.schedule()
    const left = Math.sqrt(schedule.alpha_bar[T])
    element("bend-T-value").textContent = String(T)
    element("bend-start-value").textContent = start.toPrecision(2)
    element("bend-end-value").textContent = end.toPrecision(2)
    for (const id of ["bend-start", "bend-end"]) element(id).disabled = name === "cosine"
    tell("bend-said", left > TOO_MUCH ? "bend_warning" : "bend_fine", { left: left.toFixed(4) })
    element("bend-said").classList.toggle("warning", left > TOO_MUCH)
    this.curve.draw(schedule, this.page.schedule)
    this.curve.move(T, schedule.alpha_bar[T])
    element("bend-start").setAttribute("aria-valuetext", start.toPrecision(2))
    element("bend-end").setAttribute("aria-valuetext", end.toPrecision(2))
    this.way()
  }

  /** The digit of the drawing pad on its way to T. */
  way() {
    const { T } = this.bent(),
      schedule = this.schedule(),
      x_0 = this.page.draw.x_0(),
      eps = new ImageNoise(0, [1], x_0.length).draw()
    this.strip.forEach((picture, k) => {
      const t = Math.round((T * k) / (COLUMNS - 1))
      picture.draw(q_sample(x_0, schedule.alpha_bar[t], eps))
      picture.say(`t = ${t}`)
    })
  }

  /** One noise, by the network's own schedule and by the bent one. */
  run() {
    this.forget()
    const seed = this.seed++,
      bent = this.bent()
    this.jobs = [undefined, bent].map((schedule, side) => {
      const steps = Math.min(20, schedule?.T ?? this.page.T)
      const request = { sampler: { name: "ddim", steps, eta: 0 }, seed, numbers: [1], bent: schedule }
      const job = this.page.engine.ask("sample", request, frame => {
        if (calm() && !frame.last) return
        this.results[side].draw(frame.x_t)
        if (frame.last) this.classes[side] = frame.classes[0]
        this.label()
      })
      job.done.catch(error => this.page.trouble(error, "bend-said"))
      return job
    })
  }

  /** Drops what was made. */
  forget() {
    this.jobs.forEach(job => job.stop())
    this.results.forEach(picture => picture.clear())
    this.classes = [null, null]
    this.label()
  }
}
