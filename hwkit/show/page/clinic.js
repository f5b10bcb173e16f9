/** Section "mistakes": what is done right, and below it the same noise with mistakes, switched on one by one. */

import { calm, doing, element, hush, likeliest, name_of, number, pictures, rms, tell } from "./show.js"
import { MISTAKES } from "./mistakes.js"
import { say } from "./words.js"

const COUNT = 4

export class MistakeSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.rows = [pictures("mistakes-right", COUNT), pictures("mistakes-wrong", COUNT)]
    /** @type {any[]} */
    this.last = [null, null]
    /** @type {(import("./engine.js").Job | null)[]} */
    this.jobs = [null, null]
    this.key = ""
    for (const mistake of MISTAKES) element(`mistake-${mistake}`).onchange = () => this.run()
    for (const id of ["mistakes-sampler", "mistakes-steps", "mistakes-seed"]) element(id).onchange = () => this.run()
    element("mistakes-run").onclick = () => this.run()
    this.label()
  }

  label() {
    this.rows.forEach((row, side) =>
      row.forEach((picture, n) => {
        const classes = this.last[side]?.classes?.[n]
        const name = classes ? name_of(likeliest(classes)) : ""
        picture.say(name, `${say(side ? "with_mistakes" : "done_right")}, ${n + 1}: ${name}`)
      }),
    )
  }

  /** The right row is made anew only where the sampler or the seed has changed. */
  run() {
    const made = MISTAKES.filter(mistake => element(`mistake-${mistake}`).checked)
    const sampler = { name: element("mistakes-sampler").value, steps: number("mistakes-steps"), eta: 0 }
    const request = { sampler, seed: number("mistakes-seed"), numbers: [1, 2, 3, 4] }
    const key = JSON.stringify(request),
      sides = key === this.key && this.last[0] ? [1] : [0, 1]
    this.key = key
    for (const side of sides) {
      this.jobs[side]?.stop()
      this.last[side] = null
      const job = this.page.engine.ask("sample", { ...request, made: side ? made : [] }, frame =>
        this.took(side, frame),
      )
      job.done.catch(error => this.page.trouble(error, "mistakes-said"))
      this.jobs[side] = job
    }
    doing("mistakes-said", say("working"))
  }

  /** @param {number} side @param {any} frame */
  took(side, frame) {
    if (calm() && !frame.last) return
    this.rows[side].forEach((picture, n) => picture.draw(frame.x_t, n))
    if (!frame.last) return
    this.last[side] = frame
    this.label()
    const [right, wrong] = this.last
    if (!right || !wrong) return
    tell("mistakes-said", "mistakes_result", { rms: rms(right.x_t, wrong.x_t).toFixed(3), t: wrong.t })
  }

  /** Drops what another network made. */
  forget() {
    this.key = ""
    this.jobs.forEach(job => job?.stop())
    this.last = [null, null]
    for (const picture of this.rows.flat()) picture.clear()
    hush("mistakes-said")
    this.label()
  }
}
