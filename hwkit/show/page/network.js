/**
 * The networks in the page: torch.onnx wrote their graphs, their weights come as safetensors, and ONNX Runtime Web
 * computes, in one thread of WebAssembly or on the graphics card.
 */

import { SCHEDULES } from "./schedule.js"
import { predict_with } from "./mistakes.js"

/**
 * @typedef {import("./steps.js").Values} Values
 * @typedef {import("./schedule.js").Schedule} Schedule
 * @typedef {{file: string, tensors: [string, number[]][], model?: any, weights?: string}} Graph
 * @typedef {{script: string, wasm: string}} Files those of a runtime
 * @typedef {{name: string, weights: string, runtime: Files & {package: string, webgpu?: Files}, networks: Graph[],
 *   classifier: Graph, digits: {file: string, labels: number[]}}} Site what site.json holds
 * @typedef {(path: string) => Promise<ArrayBuffer>} Read gives a file of the site
 */

/** What went wrong, by a key of words.js. */
export class Trouble extends Error {
  /** @param {string} key @param {unknown} [detail] */
  constructor(key, detail = "") {
    super(String(detail))
    this.key = key
  }
}

/** ONNX Runtime Web, ready for networks, which take turns. */
export class Runtime {
  /** @param {any} ort its module @param {"wasm" | "webgpu"} provider what computes */
  constructor(ort, provider) {
    this.ort = ort
    this.provider = provider
    this.last = Promise.resolve()
  }

  /** Begins a task when those before it have ended. @template T @param {() => Promise<T>} task @returns {Promise<T>} */
  next(task) {
    const found = this.last.then(task)
    this.last = found.then(
      () => {},
      () => {},
    )
    return found
  }
}

/**
 * The runtime of these files.
 * @param {Files} files @param {Read} read @param {any} ort its module @param {"wasm" | "webgpu"} [provider]
 */
export async function start({ wasm }, read, ort, provider = "wasm") {
  ort.env.wasm.numThreads = 1
  ort.env.logLevel = "error"
  ort.env.wasm.wasmBinary = await unzipped(await read(`runtime/${wasm}`))
  return new Runtime(ort, provider)
}

/** Whether networks can run by WebGPU: on a graphics card, by WebAssembly that can wait for it (JSPI). */
export async function has_webgpu() {
  const { gpu } = /** @type {any} */ (navigator)
  if (!gpu || !("Suspending" in WebAssembly)) return false
  const adapter = await gpu.requestAdapter().catch(() => null)
  return Boolean(adapter) && !adapter.info.isFallbackAdapter // a processor in its place is slower than plain WebAssembly
}

/** A file without its gzip, which some hosts take off themselves. @param {ArrayBuffer} buffer */
async function unzipped(buffer) {
  const [a, b] = new Uint8Array(buffer, 0, 2)
  if (a !== 0x1f || b !== 0x8b) return buffer
  return new Response(new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer()
}

/**
 * The tensors of a .safetensors file in float32, and what the kit wrote into it about them.
 * @param {ArrayBuffer} buffer @returns {{facts: any, tensors: Map<string, {shape: number[], values: Float32Array}>}}
 */
export function read_safetensors(buffer) {
  try {
    const size = Number(new DataView(buffer).getBigUint64(0, true))
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, size)))
    const { __metadata__: metadata, ...entries } = header
    const tensors = new Map()
    for (const [
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ] of Object.entries(entries)) {
      if (name.startsWith("guide.")) continue // of the run's guide, without which the page samples
      const data = buffer.slice(8 + size + begin, 8 + size + end),
        length = product(shape)
      const values =
        dtype === "F16" ? of_halves(new Uint16Array(data)) : dtype === "F32" ? new Float32Array(data) : null
      if (!values || values.length !== length) throw new Error(`${name}: ${dtype}, ${data.byteLength} bytes`)
      if (!all_finite(values)) throw new Error(`${name}: not finite`)
      tensors.set(name, { shape, values })
    }
    return { facts: JSON.parse(metadata?.hwkit ?? "{}"), tensors }
  } catch (error) {
    throw new Trouble("broken", error instanceof Error ? error.message : error)
  }
}

/** Half precision (IEEE 754 binary16) as float32. @param {Uint16Array} halves */
export function of_halves(halves) {
  const values = new Float32Array(halves.length),
    bits = new Uint32Array(values.buffer)
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i],
      exponent = half & 0x7c00,
      sign = (half & 0x8000) << 16
    if (exponent === 0) values[i] = (half & 0x3ff) * (sign ? -(2 ** -24) : 2 ** -24)
    else bits[i] = sign | (((half & 0x7fff) << 13) + (exponent === 0x7c00 ? 0x70000000 : 0x38000000))
  }
  return values
}

/** The number of values. @param {number[]} shape */
export const product = shape => shape.reduce((a, b) => a * b, 1)

/** Whether no value is infinite or NaN: so is their sum, unless it overflows. @param {Float32Array} values */
function all_finite(values) {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]
  return Number.isFinite(sum)
}

/** A graph with weights, ready to run. */
export class Network {
  /** @param {Runtime} runtime @param {any} session */
  constructor(runtime, session) {
    this.runtime = runtime
    this.session = session
  }

  /**
   * @param {Runtime} runtime @param {ArrayBuffer} graph @param {Graph} wants
   * @param {Map<string, {shape: number[], values: Float32Array}>} tensors
   */
  static async create(runtime, graph, wants, tensors) {
    const size = wants.tensors.reduce((sum, [name]) => sum + (tensors.get(name)?.values.length ?? 0), 0)
    const block = new Float32Array(size)
    let offset = 0
    for (const [name, shape] of wants.tensors) {
      const { values } = /** @type {{values: Float32Array}} */ (tensors.get(name))
      if (values.length !== product(shape)) throw new Trouble("broken", name)
      block.set(values, offset)
      offset += values.length
    }
    const options = {
      executionProviders: [runtime.provider],
      externalData: [{ path: "weights", data: new Uint8Array(block.buffer) }],
      graphOptimizationLevel: "disabled", // what ORT would fuse makes them no quicker, and takes a second at the start
      logSeverityLevel: 3, // errors
    }
    const create = () => runtime.ort.InferenceSession.create(new Uint8Array(graph), options)
    return new Network(runtime, await runtime.next(create))
  }

  /** @param {Record<string, any>} inputs @param {string} output @returns {Promise<Float32Array>} */
  async run(inputs, output) {
    const outputs = await this.runtime.next(() => this.session.run(inputs))
    return outputs[output].data
  }

  release() {
    return this.runtime.next(() => this.session.release())
  }
}

/** A trained network as the samplers see it, as hwkit/diffusion.py's Denoiser. */
export class Denoiser {
  /** @param {Network} network @param {Schedule} schedule @param {string} prediction @param {any} facts */
  constructor(network, schedule, prediction, facts) {
    this.network = network
    this.schedule = schedule
    this.prediction = prediction
    this.facts = facts
    this.shape = [facts.recipe.model.channels, 28, 28]
    this.size = product(this.shape)
  }

  /**
   * [x̂_0, ε̂]; x̂_0 is clipped to [−1, 1] and ε̂ derived from it again, unless a mistake is made. `told` is the time
   * that the network is told, where that is not t; `alpha_bar_t` the share of the image, by another schedule.
   * @param {Values} x_t @param {number} t
   * @param {{told?: number, alpha_bar_t?: number, made?: import("./mistakes.js").Mistake[]}} [how]
   */
  async denoise(x_t, t, { told = t, alpha_bar_t = this.schedule.alpha_bar[t], made = [] } = {}) {
    const { Tensor } = this.network.runtime.ort,
      count = x_t.length / this.size
    const x = new Tensor("float32", Float32Array.from(x_t), [count, ...this.shape])
    const times = new Tensor(
      "int64",
      BigInt64Array.from({ length: count }, () => BigInt(told)),
      [count],
    )
    const output = await this.network.run({ x, t: times }, "output")
    return predict_with(output, x_t, alpha_bar_t, this.prediction, made)
  }
}

/**
 * The denoiser that a .safetensors file of the kit holds. Trouble where it is broken, foreign, or of a shape whose
 * graph the page does not have.
 * @param {Runtime} runtime @param {Site} site @param {Read} read @param {ArrayBuffer} buffer
 */
export async function load_denoiser(runtime, site, read, buffer) {
  const { facts, tensors } = read_safetensors(buffer)
  const { T, schedule, prediction } = facts.recipe ?? {}
  const known = ["epsilon", "x0", "v"].includes(prediction) && SCHEDULES[schedule] && T >= 1 && T <= 100_000
  if (!known) throw new Trouble("foreign")
  if (facts.steps) throw new Trouble("steps", facts.steps)
  const graph = site.networks.find(({ tensors: wanted }) => fits(wanted, tensors))
  if (!graph) throw new Trouble("shape", JSON.stringify(facts.recipe.model))
  const network = await Network.create(runtime, await read(`data/${graph.file}`), graph, tensors)
  const recipe = { ...facts.recipe, model: graph.model }
  return new Denoiser(network, SCHEDULES[schedule](T), prediction, { ...facts, recipe })
}

/**
 * Whether the tensors are those that a graph wants; a group norm's (C) stands in the graph as (C, 1, 1).
 * @param {[string, number[]][]} wanted @param {Map<string, {shape: number[]}>} tensors
 */
function fits(wanted, tensors) {
  const trimmed = (/** @type {number[]} */ shape) => shape.join().replace(/,1,1$/, "")
  return (
    wanted.length === tensors.size &&
    wanted.every(([name, shape]) => trimmed(tensors.get(name)?.shape ?? []) === trimmed(shape))
  )
}

/** The kit's digit classifier: which digit an image holds, 10 for "no digit". */
export class Classifier {
  /** @param {Runtime} runtime @param {Site} site @param {Read} read */
  static async load(runtime, site, read) {
    const { file, weights } = site.classifier
    const [graph, buffer] = await Promise.all([read(`data/${file}`), read(`data/${weights}`)])
    const network = await Network.create(runtime, graph, site.classifier, read_safetensors(buffer).tensors)
    return new Classifier(network)
  }

  /** @param {Network} network */
  constructor(network) {
    this.network = network
  }

  /** The eleven probabilities of each RGB image. @param {Values} x @returns {Promise<number[][]>} */
  async classify(x) {
    const count = x.length / 2352
    const input = new this.network.runtime.ort.Tensor("float32", Float32Array.from(x), [count, 3, 28, 28])
    const logits = await this.network.run({ x: input }, "logits")
    return Array.from({ length: count }, (_, n) => softmax(Array.from(logits.slice(11 * n, 11 * n + 11))))
  }
}

/** @param {number[]} logits */
function softmax(logits) {
  const top = Math.max(...logits),
    e = logits.map(x => Math.exp(x - top)),
    sum = e.reduce((a, b) => a + b)
  return e.map(x => x / sum)
}
