/** Section "fork": eight continuations of the state on the screen, and how many of them agree. */

import { Picture, calm, doing, element, hush, likeliest, name_of, number, pictures, tell } from "./show.js"
import { say } from "./words.js"

const COUNT = 8

export class ForkSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.origin = new Picture(element("fork-state"))
    this.pictures = pictures("fork-pictures", COUNT)
    this.seed = 100
    /** The likeliest class of each continuation. @type {number[]} */
    this.best = []
    /** @type {import("./engine.js").Job | null} */
    this.job = null
    element("fork-run").onclick = () => this.run()
    element("fork-t").oninput = (/** @type {any} */ event) => this.page.sample.show(Number(event.target.value))
    this.label()
  }

  label() {
    const frame = this.page.sample?.state()
    this.origin.say(frame ? `${say("fork_state")}${say("colon")}xₜ, t = ${frame.t}` : "xₜ")
    this.best.forEach((each, n) =>
      this.pictures[n].say(name_of(each), say("continuation", { n: n + 1, digit: name_of(each) })),
    )
  }

  /** The state on the screen above. @param {any} frame */
  state(frame) {
    if (!frame) return
    const range = element("fork-t")
    range.max = element("sample-t").max
    range.value = element("sample-t").value
    range.setAttribute("aria-valuetext", `t = ${frame.t}`)
    this.origin.draw(frame.x_t)
    this.label()
    element("fork-run").disabled = frame.t === 0
  }

  run() {
    const frame = this.page.sample.state()
    if (!frame?.t) return
    this.job?.stop()
    const x_t = new Float32Array(COUNT * frame.x_t.length)
    for (let n = 0; n < COUNT; n++) x_t.set(frame.x_t, n * frame.x_t.length)
    const request = {
      sampler: { name: element("fork-sampler").value, steps: number("fork-steps"), eta: 1 },
      seed: this.seed++,
      numbers: this.pictures.map((_, n) => n + 1),
      x_t,
      from: frame.t,
      classify: true,
    }
    if (request.sampler.name === "ddim") request.sampler.eta = 0
    doing("fork-said", say("working"))
    this.job = this.page.engine.ask("sample", request, found => this.took(found, frame.t))
    this.job.done.catch(error => this.page.trouble(error, "fork-said"))
  }

  /** @param {any} found @param {number} from */
  took({ t, x0_hat, classes, last }, from) {
    if (calm() && !last) return
    this.best = classes.map(likeliest)
    this.pictures.forEach((picture, n) => picture.draw(x0_hat, n))
    this.label()
    const counts = new Map()
    for (const each of this.best) counts.set(each, (counts.get(each) ?? 0) + 1)
    const [winner, agree] = [...counts].sort((a, b) => b[1] - a[1])[0]
    const words = { agree, of: COUNT, digit: () => name_of(winner), from, t }
    if (last) tell("fork-said", "fork_result", words)
    else doing("fork-said", say("fork_so_far", words))
  }

  /** Drops what another network made. */
  forget() {
    this.job?.stop()
    hush("fork-said")
    this.best = []
    for (const picture of this.pictures) picture.forget()
  }
}
