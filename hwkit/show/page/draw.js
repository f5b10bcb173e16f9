/** Section "draw": a digit of the reader's own, noised to any t, guessed back, and run back to 0. */

import { Picture, calm, digit, doing, element, hush, number, pictures, rms, tell } from "./show.js"
import { ImageNoise } from "./noise.js"
import { q_sample } from "./steps.js"
import { say } from "./words.js"

const SIDE = 28,
  PIXELS = SIDE * SIDE,
  RADIUS = 1.35 // of the brush, in pixels

/** Digit `place` as ink. @param {Uint8Array} images @param {number} place */
function of_mnist(images, place) {
  return Float32Array.from(images.subarray(place * PIXELS, (place + 1) * PIXELS), value => value / 255)
}

/** A picture as ink: whole, in the middle; light on dark, dark on light, or on nothing. @param {ImageBitmap} bitmap */
function ink_of(bitmap) {
  const scale = SIDE / Math.max(bitmap.width, bitmap.height),
    [width, height] = [bitmap.width * scale, bitmap.height * scale]
  const context = new OffscreenCanvas(SIDE, SIDE).getContext("2d")
  if (!context) throw new Error("no canvas")
  context.imageSmoothingQuality = "high"
  context.drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height)
  const { data } = context.getImageData(0, 0, SIDE, SIDE)
  const alpha = new Float32Array(PIXELS),
    light = new Float32Array(PIXELS) // where it is opaque
  for (let i = 0; i < PIXELS; i++) {
    alpha[i] = data[4 * i + 3] / 255
    light[i] = (alpha[i] * (data[4 * i] + data[4 * i + 1] + data[4 * i + 2])) / 765
  }
  const [opaque, lit] = [alpha, light].map(values => values.reduce((a, b) => a + b))
  if (opaque < (width * height) / 2) return alpha // the ink alone
  return lit > opaque / 2 ? alpha.map((value, i) => value - light[i]) : light // on paper, or on black
}

export class DrawSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.pad = element("pad")
    /** From 0 to 1. @type {Float32Array} */
    this.ink = new Float32Array(PIXELS)
    this.cursor = [14, 14]
    this.seed = 1
    this.shown = {
      xt: new Picture(element("draw-xt")),
      x0: new Picture(element("draw-x0")),
      error: new Picture(element("draw-error")),
    }
    this.back = pictures("draw-back", 2)
    /** @type {import("./engine.js").Job | null} */
    this.job = null
    this.asking = this.again = false // whether x̂_0 is being asked for, and has to be asked for again
    this.#pointer()
    this.pad.onkeydown = (/** @type {KeyboardEvent} */ event) => this.#key(event)
    this.pad.onfocus = this.pad.onblur = () => this.paint()
    element("draw-t").oninput = () => this.noise()
    element("draw-fresh").onclick = () => {
      this.seed++
      this.noise()
    }
    element("draw-clear").onclick = () => {
      this.ink.fill(0)
      this.paint()
      this.noise()
    }
    element("draw-file").onclick = (/** @type {any} */ event) => (event.target.value = "") // as in own.js
    element("draw-file").onchange = (/** @type {any} */ event) => this.upload(event.target.files[0])
    element("draw-run").onclick = () => this.run()
    this.label()
  }

  label() {
    this.pad.setAttribute("aria-label", say("pad"))
    this.shown.xt.say("xₜ")
    this.shown.x0.say("x̂₀")
    this.shown.error.say(say("error_picture"))
    this.back[0].say(`${say("way_back")}${say("colon")}xₜ`)
    this.back[1].say(`${say("way_back")}${say("colon")}x̂₀`)
  }

  /**
   * Buttons for MNIST's own digits; another press takes another of the class.
   * @param {{images: Uint8Array, labels: number[]}} digits
   */
  offer(digits) {
    const parent = element("draw-digits")
    parent.replaceChildren()
    for (let label = 0; label < 10; label++) {
      const button = document.createElement("button"),
        places = digits.labels.flatMap((each, i) => (each === label ? [i] : []))
      let next = 0
      button.textContent = String(label)
      button.type = "button"
      button.onclick = () => this.take(of_mnist(digits.images, places[next++ % places.length]))
      parent.append(button)
    }
    this.ink = of_mnist(digits.images, digits.labels.indexOf(3))
    this.paint()
  }

  /** @param {Float32Array} ink */
  take(ink) {
    this.ink = ink
    this.paint()
    this.noise()
  }

  /** @param {File} file an image, drawn light on dark or dark on light */
  async upload(file) {
    if (!file) return
    try {
      this.take(ink_of(await createImageBitmap(file)))
    } catch {
      tell("draw-said", "no_image", { file: file.name })
    }
  }

  #pointer() {
    const spot = (/** @type {PointerEvent} */ event) => {
      const box = this.pad.getBoundingClientRect()
      return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE]
    }
    /** @type {number[] | null} */
    let last = null
    this.pad.onpointerdown = (/** @type {PointerEvent} */ event) => {
      this.pad.setPointerCapture(event.pointerId)
      this.stroke((last = spot(event)), last)
    }
    this.pad.onpointermove = (/** @type {PointerEvent} */ event) => {
      if (!last) return
      const next = spot(event)
      this.stroke(last, next)
      last = next
    }
    this.pad.onpointerup = this.pad.onpointercancel = () => {
      last = null
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
    const move = moves[/** @type {keyof typeof moves} */ (event.key)]
    if (move) {
      const before = this.cursor.map(x => x + 0.5)
      this.cursor = this.cursor.map((x, k) => Math.min(Math.max(x + move[k], 0), SIDE - 1))
      if (event.shiftKey)
        this.stroke(
          before,
          this.cursor.map(x => x + 0.5),
        )
      else this.paint()
    } else if (event.key === " " || event.key === "Enter") {
      const spot = this.cursor.map(x => x + 0.5)
      this.stroke(spot, spot)
    } else return
    event.preventDefault()
  }

  /** A line of the brush. @param {number[]} from @param {number[]} to in pixels */
  stroke([x0, y0], [x1, y1]) {
    const length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
    for (let i = 0; i < PIXELS; i++) {
      const x = (i % SIDE) + 0.5,
        y = Math.floor(i / SIDE) + 0.5
      const part = length2 ? Math.min(Math.max(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length2, 0), 1) : 0
      const distance = Math.hypot(x - x0 - part * (x1 - x0), y - y0 - part * (y1 - y0))
      this.ink[i] = Math.max(this.ink[i], Math.min(Math.max(RADIUS + 0.5 - distance, 0), 1))
    }
    this.paint()
    this.noise()
  }

  /** The drawing, with the keyboard's cursor while the pad has the focus. */
  paint() {
    const image = new ImageData(SIDE, SIDE)
    for (let i = 0; i < PIXELS; i++)
      image.data.set([this.ink[i] * 255, this.ink[i] * 255, this.ink[i] * 255, 255], 4 * i)
    if (this.pad.matches(":focus-visible"))
      image.data.set([209, 73, 91, 255], 4 * (this.cursor[1] * SIDE + this.cursor[0]))
    this.pad.getContext("2d").putImageData(image, 0, 0)
  }

  /** x_0 as RGB in [−1, 1]. */
  x_0() {
    return Float32Array.from({ length: 3 * PIXELS }, (_, i) => 2 * this.ink[i % PIXELS] - 1)
  }

  x_t() {
    const eps = new ImageNoise(this.seed, [0], 3 * PIXELS).draw()
    return q_sample(this.x_0(), this.page.schedule.alpha_bar[number("draw-t")], eps)
  }

  /** Shows x_t at once, and x̂_0 as soon as the network has it. */
  noise() {
    const t = number("draw-t"),
      x_t = this.x_t(),
      x_0 = this.x_0()
    element("draw-t-value").textContent = `${t} / ${this.page.T}`
    this.page.bend.way() // which shows this digit, too
    this.shown.xt.draw(x_t)
    if (t === 0) return this.guessed(x_0, x_0, null)
    if (this.asking) return void (this.again = true) // one question at a time, however quick the hand is
    this.asking = true
    this.page.engine
      .ask("denoise", { x_t, t })
      .done.then(
        // At 0 it is known already; null is the answer of a network that was taken away.
        found => found && number("draw-t") && this.guessed(found.x0_hat, x_0, found.classes[0]),
        error => this.page.trouble(error, "draw-said"),
      )
      .finally(() => {
        this.asking = false
        if (this.again) this.noise()
      })
    this.again = false
  }

  /** @param {Float32Array} x0_hat @param {Float32Array} x_0 @param {number[] | null} classes */
  guessed(x0_hat, x_0, classes) {
    const error = x_0.map((x, i) => Math.abs(x0_hat[i] - x) - 1) // 0 is black, as much as 2 is white
    this.shown.x0.draw(x0_hat)
    this.shown.error.draw(error)
    tell("draw-said", "draw_error", { rms: rms(x0_hat, x_0).toFixed(3), digit: () => (classes ? digit(classes) : "–") })
  }

  /** From x_t back to 0, by the ancestral sampler in 20 steps of the whole way. */
  run() {
    const t = number("draw-t")
    if (!t) return tell("draw-result", "draw_zero")
    this.job?.stop()
    doing("draw-result", say("working"))
    const sampler = { name: element("draw-sampler").value, steps: 20, eta: 0 }
    const before = this.page.engine.ask("classify", { x: this.x_0() }).done.catch(() => null)
    const request = { sampler, seed: this.seed, numbers: [1], x_t: this.x_t(), from: t }
    this.job = this.page.engine.ask("sample", request, async frame => {
      if (calm() && !frame.last) return
      this.back[0].draw(frame.x_t)
      this.back[1].draw(frame.x0_hat)
      if (!frame.last) return doing("draw-result", `t = ${frame.t}`)
      const was = (await before)?.classes[0]
      tell("draw-result", "draw_result", {
        before: () => (was ? digit(was) : "–"),
        after: () => digit(frame.classes[0]),
      })
    })
    this.job.done.catch(error => this.page.trouble(error, "draw-result"))
  }

  /** Drops what another network made. */
  forget() {
    this.job?.stop()
    hush("draw-result")
    for (const picture of this.back) picture.clear()
  }
}
