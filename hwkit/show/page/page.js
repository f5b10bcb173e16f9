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
import { element, retell, tell, words_of } from "./show.js"
import { dress, language, say, speak } from "./words.js"

export class Page {
  /** @param {Engine} engine @param {any} known what the worker says of the network and the digits */
  constructor(engine, known) {
    this.engine = engine
    this.known = known
    this.schedule = SCHEDULES[known.schedule](known.T)
    this.sample = new SampleSection(this)
    this.draw = new DrawSection(this)
    this.fork = new ForkSection(this)
    this.bend = new BendSection(this)
    this.mistakes = new MistakeSection(this)
    this.walk = new WalkSection(this)
    this.own = new OwnSection(this)
    this.draw.offer(known.digits)
    this.knows(known, known.name)
    for (const fieldset of document.querySelectorAll("fieldset[disabled]")) fieldset.removeAttribute("disabled")
  }

  get T() {
    return this.schedule.T
  }

  /** What is known of the network that is in use now. @param {any} known @param {string} name */
  knows(known, name) {
    this.known = { ...known, name }
    this.schedule = SCHEDULES[known.schedule](known.T)
    element("draw-t").max = String(this.T)
    for (const section of [this.fork, this.draw, this.bend, this.mistakes, this.walk]) section.forget()
    this.sample.offer()
    this.sample.run()
    this.draw.noise()
    this.bend.show()
    this.about()
  }

  about() {
    const { name, T, schedule, prediction, parameters, provider } = this.known
    const signs = /** @type {Record<string, string>} */ ({ x0: "x̂₀", epsilon: "ε̂", v: "v̂" })
    const size = { millions: (parameters / 1e6).toFixed(1), ten_thousands: Math.round(parameters / 1e4) }
    tell("status", "about", {
      name,
      T,
      schedule: say(schedule),
      predicts: signs[prediction],
      where: say(provider),
      ...size,
    })
    element("status").classList.remove("warning")
  }

  /** The state of the left sampler changed. @param {any} frame */
  state(frame) {
    this.fork.state(frame)
  }

  /** The first images are there. */
  showed() {
    document.body.dataset.first ??= String(Math.round(performance.now()))
  }

  /** @param {unknown} error @param {string} id where the section says how its work goes */
  trouble(error, id) {
    warn(error)
    tell(id, ...words_of(error))
  }

  /** All words again, in the other language. */
  relabel() {
    for (const section of [this.sample, this.draw, this.fork, this.bend, this.mistakes, this.walk]) section.label()
    this.bend.show()
    if (this.sample.state()) this.sample.show(this.sample.at, this.sample.follows)
    this.sample.offer()
    if (!element("status").classList.contains("warning")) this.about()
  }
}

/** @param {unknown} error */
function warn(error) {
  tell("status", ...words_of(error))
  element("status").classList.add("warning")
}

element("not-started").remove()
element("page").hidden = false
dress()
/** @type {Page | undefined} */
let page
element("language").onclick = () => {
  speak(language() === "en" ? "zh" : "en")
  dress()
  retell()
  page?.relabel()
}
if (typeof WebAssembly !== "object" || typeof DecompressionStream !== "function") {
  tell("status", "no_wasm")
  element("status").classList.add("warning")
} else {
  tell("status", "loading")
  const engine = new Engine(new URL(".", location.href))
  engine
    .ask("load")
    .done.then(known => {
      page = new Page(engine, known)
    })
    .catch(error => warn(error))
}
