/** The page's side of the worker. */

import { Trouble } from "./network.js"

/**
 * @typedef {object} Job
 * @property {Promise<any>} done what the worker answers in the end; null where the job was stopped
 * @property {() => void} stop
 * @property {() => void} pause
 * @property {() => void} go
 */

export class Engine {
  /** @param {URL} base where the site lies */
  constructor(base) {
    this.base = base.href
    this.worker = new Worker(new URL("worker.js", base), { type: "module" })
    this.next = 1
    /** @type {Map<number, Record<"frame" | "resolve" | "reject", (value: any) => void>>} */
    this.waiting = new Map()
    this.worker.onmessage = ({ data }) => this.#heard(data)
    this.worker.onerror = event => {
      event.preventDefault()
      for (const { reject } of this.waiting.values()) reject(new Trouble("failed", event.message ?? "worker.js"))
      this.waiting.clear()
    }
  }

  /**
   * @param {string} kind one of worker.js's @param {object} [request] @param {(frame: any) => void} [frame]
   * @returns {Job}
   */
  ask(kind, request = {}, frame = () => {}) {
    const id = this.next++
    const done = new Promise((resolve, reject) => this.waiting.set(id, { frame, resolve, reject }))
    this.worker.postMessage({ id, kind, base: this.base, ...request })
    const tell = (/** @type {string} */ word) => () => this.worker.postMessage({ id, kind: word })
    const stop = () => {
      this.waiting.get(id)?.resolve(null)
      this.waiting.delete(id)
      tell("stop")()
    }
    return { done, stop, pause: tell("pause"), go: tell("go") }
  }

  /** @param {{id: number, frame?: any, done?: any, stopped?: boolean, trouble?: Record<string, string>}} answer */
  #heard({ id, frame, done, stopped, trouble }) {
    const asked = this.waiting.get(id)
    if (!asked) return // it was stopped: what was under way is thrown away
    if (frame) return asked.frame(frame)
    this.waiting.delete(id)
    if (trouble) asked.reject(new Trouble(trouble.key, trouble.detail))
    else asked.resolve(stopped ? null : done)
  }
}
