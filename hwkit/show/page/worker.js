/**
 * All that takes time runs here, so that the page never freezes. Each request has a number; answers carry it. Between
 * two evaluations the worker looks for messages: so jobs take turns, and one that is cancelled ends at once.
 */

import { Classifier, Denoiser, Trouble, has_webgpu, load_denoiser, product, start } from "./network.js"
import { ImageNoise } from "./noise.js"
import { needs_noise, sample, step_of, times } from "./sampling.js"
import { step_with, times_with } from "./mistakes.js"
import { SCHEDULES } from "./schedule.js"

/**
 * @typedef {import("./network.js").Site} Site
 * @typedef {import("./sampling.js").Sampler} Sampler
 * @typedef {{name: string, T: number, start: number, end: number}} Bent
 * @typedef {{stopped: boolean, paused: boolean, go: () => void}} Job
 * @typedef {object} SampleRequest
 * @property {Sampler} sampler
 * @property {number} seed
 * @property {number[]} numbers which images of the seed
 * @property {Float32Array} [x_t] where to begin, else with the seed's noise
 * @property {number} [from] at which t that is; the steps are fewer in proportion
 * @property {import("./mistakes.js").Mistake[]} [made]
 * @property {Bent} [bent] another schedule than the network's own
 * @property {boolean} [classify] whether each x̂_0 is classified
 */

/** @type {{site: Site, denoiser: Denoiser, classifier: () => Promise<Classifier>}} */
let loaded

/** The jobs at work, by number. @type {Map<number, Job>} */
const jobs = new Map()

/** @type {Record<string, (request: any, job: Job, tell: (frame: any) => void) => Promise<any>>} */
const KINDS = {
  /** Fetches all that is needed, and says what the network is. */
  async load({ base }) {
    const read = (/** @type {string} */ path) => fetched(new URL(path, base))
    const site = JSON.parse(new TextDecoder().decode(await read("data/site.json")))
    const [denoiser, digits] = await Promise.all([begun(site, read, base), read(`data/${site.digits.file}`)])
    let found = /** @type {Promise<Classifier> | null} */ (null)
    const again = (/** @type {unknown} */ error) => {
      found = null // it is asked for again the next time
      throw error
    }
    const classifier = () => (found ??= Classifier.load(denoiser.network.runtime, site, read).catch(again))
    loaded = { site, denoiser, classifier }
    return { ...facts(), name: site.name, digits: { images: new Uint8Array(digits), labels: site.digits.labels } }
  },

  /** Takes other weights of the kit; where they are refused, those from before stay. */
  async weights({ buffer, base }, job) {
    const read = (/** @type {string} */ path) => fetched(new URL(path, base))
    const denoiser = await load_denoiser(loaded.denoiser.network.runtime, loaded.site, read, buffer)
    for (const other of jobs.values()) if (other !== job) stop(other)
    await loaded.denoiser.network.release()
    loaded.denoiser = denoiser
    return facts()
  },

  /** x̂_0 of x_t, once. */
  async denoise({ x_t, t }) {
    const [x0_hat] = await loaded.denoiser.denoise(x_t, t)
    return { x0_hat, classes: await classes_of(x0_hat) }
  },

  async classify({ x }) {
    return { classes: await classes_of(x) }
  },

  /** Frames as they are made. */
  async sample(/** @type {SampleRequest} */ request, job, tell) {
    const { denoiser } = loaded,
      { sampler, made = [], bent } = request,
      own = denoiser.schedule
    const schedule = bent ? SCHEDULES[bent.name](bent.T, bent.start, bent.end) : own
    const source = new ImageNoise(request.seed, request.numbers, denoiser.size)
    const first = source.draw()
    const from = request.from ?? schedule.T
    const steps = Math.min(Math.max(Math.round(((sampler.steps || own.T) * from) / schedule.T), 1), from)
    const through = request.x_t ? times(from, steps) : times_with(schedule.T, steps, made)
    const noise = needs_noise(sampler) || made.includes("noise") ? () => source.draw() : null
    const step = step_with(step_of(sampler), made)
    const denoise = (/** @type {any} */ x_t, /** @type {number} */ t, /** @type {number} */ s) => {
      const alpha_bar_t = schedule.alpha_bar[t],
        asked = made.includes("shift") ? Math.max(s, 1) : t
      const told = bent ? own.time_of(schedule.alpha_bar[asked]) : asked
      return denoiser.denoise(x_t, t, { told, alpha_bar_t, made })
    }
    for await (const frame of sample(denoise, request.x_t ?? first, through, schedule.alpha_bar, step, noise)) {
      if (job.stopped) return {}
      const last = frame.x0_hat === frame.x_t
      const classes = request.classify || last ? await classes_of(frame.x0_hat) : null
      if (job.stopped) return {}
      tell({ ...frame, alpha_bar: schedule.alpha_bar[frame.t], last, classes, of: through.length })
      await turn()
      while (job.paused && !job.stopped)
        await new Promise(resolve => {
          job.go = () => resolve(null)
        })
      if (job.stopped) return {}
    }
    return {}
  },
}

/**
 * The site's own network: by WebGPU where the site has a runtime for it and the browser a card that proves to work.
 * @param {Site} site @param {import("./network.js").Read} read @param {string} base
 */
async function begun(site, read, base) {
  const weights = read(`data/${site.weights}`)
  const begin = async (
    /** @type {import("./network.js").Files} */ files,
    /** @type {"wasm" | "webgpu"} */ provider,
  ) => {
    const ready = imported(new URL(`runtime/${files.script}`, base)).then(ort => start(files, read, ort, provider))
    const [runtime, buffer] = await Promise.all([ready, weights])
    return load_denoiser(runtime, site, read, buffer)
  }
  if (site.runtime.webgpu && (await has_webgpu())) {
    try {
      const denoiser = await begin(site.runtime.webgpu, "webgpu")
      const [x0_hat] = await denoiser.denoise(new Float32Array(denoiser.size), denoiser.schedule.T)
      if (x0_hat.every(Number.isFinite)) return denoiser
    } catch (error) {
      console.warn(`WebGPU does not work here, so WebAssembly computes: ${error}`)
    }
  }
  return begin(site.runtime, "wasm")
}

/** The eleven probabilities of each image. @param {Float32Array} x */
async function classes_of(x) {
  return (await loaded.classifier()).classify(x)
}

/** What the page says of a network. */
function facts() {
  const {
    denoiser: {
      schedule,
      prediction,
      network,
      facts: { recipe, epoch, loss, images_seen },
    },
    site,
  } = loaded
  return {
    T: schedule.T,
    schedule: schedule.name,
    prediction,
    epoch,
    loss,
    images_seen,
    recipe: recipe.name,
    provider: network.runtime.provider,
    parameters: site.networks
      .find(({ model }) => model === recipe.model)
      ?.tensors.reduce((sum, [, shape]) => sum + product(shape), 0),
  }
}

/** @param {URL} url */
async function fetched(url) {
  const answer = await fetch(url).catch(error => {
    throw new Trouble("fetch", `${url.pathname}: ${error.message}`)
  })
  if (!answer.ok) throw new Trouble("fetch", `${url.pathname}: ${answer.status}`)
  return answer.arrayBuffer()
}

/** @param {URL} url */
function imported(url) {
  return import(url.href).catch(error => {
    throw new Trouble("fetch", `${url.pathname}: ${error.message}`)
  })
}

/** Lets messages in. */
const turn = () =>
  new Promise(resolve => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve(null)
    }
    port2.postMessage(null)
  })

/** @param {{stopped: boolean, go: () => void}} job */
function stop(job) {
  job.stopped = true
  job.go()
}

self.onmessage = async ({ data: { id, kind, ...request } }) => {
  const known = jobs.get(id)
  if (kind === "stop") return known && stop(known)
  if (kind === "pause") return known && (known.paused = true)
  if (kind === "go") return known && ((known.paused = false), known.go())
  const job = { stopped: false, paused: false, go() {} }
  jobs.set(id, job)
  try {
    const done = await KINDS[kind](request, job, frame => self.postMessage({ id, frame }))
    self.postMessage({ id, done, stopped: job.stopped })
  } catch (error) {
    const key = error instanceof Trouble ? error.key : "failed"
    self.postMessage({ id, trouble: { key, detail: error instanceof Error ? error.message : String(error) } })
  } finally {
    jobs.delete(id)
  }
}
