/** Section "walk": from one noise to another, and the images on the way. */

import { Picture, calm, digit, doing, element, hush, likeliest, name_of, number, pictures, tell } from "./show.js"
import { ImageNoise, between } from "./noise.js"
import { say } from "./words.js"

const COUNT = 9

export class WalkSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.big = new Picture(element("walk-picture"))
    this.strip = pictures("walk-strip", COUNT)
    /** @type {import("./engine.js").Job | null} */
    this.job = null
    /** @type {any} */
    this.frame = null
    element("walk-run").onclick = () => this.run()
    element("walk-kind").onchange = () => this.run()
    element("walk-at").oninput = () => this.show()
    this.label()
  }

  label() {
    this.strip.forEach((picture, n) => {
      const classes = this.frame?.classes?.[n]
      const name = classes ? name_of(likeliest(classes)) : ""
      picture.say(name, `${n + 1} / ${COUNT}: ${name}`)
    })
    this.show()
  }

  show() {
    const n = number("walk-at")
    const classes = this.frame?.classes?.[n]
    element("walk-at").setAttribute("aria-valuetext", `${n + 1} / ${COUNT}`)
    this.big.say(classes ? `${n + 1} / ${COUNT}: ${digit(classes)}` : `${n + 1} / ${COUNT}`)
    if (this.frame) this.big.draw(this.frame.x_t, n)
    this.strip.forEach((picture, k) => picture.figure.classList.toggle("chosen", k === n))
  }

  run() {
    this.job?.stop()
    doing("walk-said", say("working"))
    const seed = number("walk-seed"),
      kind = element("walk-kind").value
    const [a, b] = ["walk-a", "walk-b"].map(id => new ImageNoise(seed, [number(id)], 2352).draw())
    const x_t = new Float32Array(COUNT * a.length)
    for (let n = 0; n < COUNT; n++) x_t.set(between(a, b, n / (COUNT - 1), kind), n * a.length)
    const request = { sampler: { name: "ddim", steps: 15, eta: 0 }, seed, numbers: [1], x_t, from: this.page.T }
    this.job = this.page.engine.ask("sample", request, frame => {
      if (calm() && !frame.last) return
      this.frame = frame
      this.strip.forEach((picture, n) => picture.draw(frame.x_t, n))
      this.label()
      if (frame.last) tell("walk-said", "walk_result", { changes: changes(frame.classes) })
      else doing("walk-said", `t = ${frame.t}`)
    })
    this.job.done.catch(error => this.page.trouble(error, "walk-said"))
  }

  /** Drops what another network made. */
  forget() {
    this.job?.stop()
    this.frame = null
    for (const picture of [this.big, ...this.strip]) picture.clear()
    hush("walk-said")
    this.label()
  }
}

/** How often the digit changes along the way. @param {number[][]} classes */
function changes(classes) {
  const best = classes.map(likeliest)
  return best.filter((each, i) => i > 0 && each !== best[i - 1]).length
}
