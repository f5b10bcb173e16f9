/** The page: fetches the network, wires the sections, speaks two languages. */

import { BendSection } from "./bend.js"
import { DrawSection } from "./draw.js"
import { Engine } from "./engine.js"
import { ForkSection } from "./fork.js"
import { MistakeSection } from "./clinic.js"
import { OwnSection } from "./own.js"
import { SampleSection } from "./sampler.js"
import { WalkSection } from "./walk.js"
import { SCHEDULES } from "./schedule.js"
import { Trouble } from "./network.js"
import { element } from "./show.js"
import { dress, language, say, speak } from "./words.js"

export class Page {
  constructor() {
    this.engine = new Engine(new URL(".", location.href))
    this.began = performance.now()
  }

  get T() {
    return this.schedule.T
  }

  async start() {
    element("status").textContent = say("loading")
    const known = await this.engine.ask("load").done
    this.schedule = SCHEDULES[known.schedule](known.T)
    this.sample = new SampleSection(this)
    this.draw = new DrawSection(this)
    this.fork = new ForkSection(this)
    this.bend = new BendSection(this)
    this.mistakes = new MistakeSection(this)
    this.walk = new WalkSection(this)
    this.own = new OwnSection(this)
    this.digits = known.digits
    this.draw.offer(known.digits)
    this.knows(known, known.name)
    document.body.classList.add("ready")
    for (const fieldset of document.querySelectorAll("fieldset[disabled]")) fieldset.removeAttribute("disabled")
  }

  /** What is known of the network that is in use now. @param {any} known @param {string} name */
  knows(known, name) {
    this.known = { ...known, name }
    this.schedule = SCHEDULES[known.schedule](known.T)
    element("draw-t").max = String(this.T)
    this.mistakes.key = "" // its right row is another network's
    this.sample.offer()
    this.sample.run()
    this.draw.noise()
    this.bend.show()
    this.about()
  }

  about() {
    if (!this.known) return
    const { name, T, schedule, prediction, parameters } = this.known
    const signs = /** @type {Record<string, string>} */ ({ x0: "x̂₀", epsilon: "ε̂", v: "v̂" })
    const size = { millions: (parameters / 1e6).toFixed(1), ten_thousands: Math.round(parameters / 1e4) }
    element("status").textContent = say("about", { name, T, schedule: say(schedule), predicts: signs[prediction], ...size })
    element("status").classList.remove("warning")
  }

  /** The state of the left sampler changed. @param {any} frame */
  state(frame) {
    this.fork?.state(frame)
  }

  /** What a section is at. @param {string} section @param {string} words */
  busy(section, words) {
    element(`${section}-said`).textContent = words
  }

  /** The first images are there. */
  showed() {
    this.ready ??= Math.round(performance.now() - this.began)
    document.body.dataset.first = String(this.ready)
  }

  /** @param {unknown} error */
  trouble(error) {
    element("status").textContent = this.words_of(error)
    element("status").classList.add("warning")
  }

  /** One sentence of what went wrong. @param {unknown} error @param {string} [file] */
  words_of(error, file = "") {
    const detail = error instanceof Error ? error.message : String(error)
    return say(`trouble_${error instanceof Trouble ? error.key : "failed"}`, { file: file || "ema_latest.safetensors", detail })
  }

  /** All words again, in the other language. */
  relabel() {
    dress()
    for (const section of [this.sample, this.draw, this.fork, this.bend, this.mistakes, this.walk]) section?.label()
    if (this.bend) this.bend.show()
    if (this.sample?.state()) this.sample.show(this.sample.at, this.sample.following)
    this.sample?.offer()
    this.about()
  }
}

element("not-started").remove()
element("page").hidden = false
dress()
/** @type {Page | undefined} */
let page
element("language").onclick = () => {
  speak(language() === "en" ? "zh" : "en")
  page ? page.relabel() : dress()
}
if (typeof WebAssembly !== "object" || typeof DecompressionStream !== "function") {
  element("status").dataset.word = "no_wasm"
  element("status").classList.add("warning")
  dress()
} else {
  page = new Page()
  page.start().catch(error => page?.trouble(error))
}
