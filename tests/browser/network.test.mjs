// The networks of a site against PyTorch, in node: the same files and the same code as in the page.

import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { test } from "node:test"

const { Classifier, load_denoiser, of_halves, start } = await import(`${process.env.HWKIT_PAGE}/network.js`)
const cases = JSON.parse(await readFile(process.env.HWKIT_CASES, "utf8"))
const read = async path => {
  const { buffer, byteOffset, length } = await readFile(`${process.env.HWKIT_SITE}/${path}`)
  return buffer.slice(byteOffset, byteOffset + length)
}
const site = JSON.parse(new TextDecoder().decode(await read("data/site.json")))
const ort = await import(`${process.env.HWKIT_SITE}/runtime/${site.runtime.script}`)
const runtime = await start(site.runtime, read, ort)
const weights = await read(`data/${site.weights}`)
const denoiser = await load_denoiser(runtime, site, read, weights)

const worst = (found, expected) => expected.reduce((most, value, i) => Math.max(most, Math.abs(found[i] - value)), 0)

test("x̂_0 is PyTorch's", async () => {
  for (const { t, x_t, x0_hat } of cases.inputs) {
    const [found] = await denoiser.denoise(Float32Array.from(x_t), t)
    assert.equal(found.length, x0_hat.length)
    const off = worst(found, x0_hat)
    assert.ok(off <= cases.tolerance, `t = ${t}: off by ${off}`)
  }
})

test("x̂_0 and ε̂ agree on x_t", async () => {
  for (const { t, x_t } of cases.inputs) {
    const [x0_hat, eps_hat] = await denoiser.denoise(Float32Array.from(x_t), t),
      share = denoiser.schedule.alpha_bar[t]
    assert.ok(
      worst(
        x_t.map((_, i) => Math.sqrt(share) * x0_hat[i] + Math.sqrt(1 - share) * eps_hat[i]),
        x_t,
      ) < 1e-4,
    )
  }
})

test("an image is the same alone and among others", async () => {
  const [{ x_t, t }] = cases.inputs,
    size = denoiser.size,
    one = Float32Array.from(x_t).slice(0, size)
  const three = new Float32Array(3 * size)
  for (let n = 0; n < 3; n++) three.set(n === 1 ? one : one.map(x => -x), n * size)
  const [alone] = await denoiser.denoise(one, t),
    [among] = await denoiser.denoise(three, t)
  assert.ok(worst(among.slice(size, 2 * size), [...alone]) < 1e-5)
})

test("the classifier says what Python's says", { skip: !site.classifier && "this site has none" }, async () => {
  const classifier = await Classifier.load(runtime, site, read)
  for (const { x0_hat, class: expected } of cases.inputs) {
    const [found] = await classifier.classify(Float32Array.from(x0_hat))
    assert.equal(found.indexOf(Math.max(...found)), expected)
    assert.ok(Math.abs(found.reduce((a, b) => a + b) - 1) < 1e-9)
  }
})

test("what is broken or foreign is refused", async () => {
  const refused = (buffer, key) =>
    assert.rejects(load_denoiser(runtime, site, read, buffer), error => error.key === key)
  await refused(weights.slice(0, weights.byteLength / 2), "broken")
  await refused(new ArrayBuffer(0), "broken")
  await refused(new TextEncoder().encode("I am a text, and long enough for a header.").buffer, "broken")
  const nan = weights.slice(0)
  new Uint16Array(nan, nan.byteLength - 64).fill(0x7e00)
  await refused(nan, "broken")
  const header = change => {
    const size = Number(new DataView(weights).getBigUint64(0, true))
    const content = JSON.parse(new TextDecoder().decode(new Uint8Array(weights, 8, size)))
    change(content)
    const bytes = new TextEncoder().encode(JSON.stringify(content)),
      out = new Uint8Array(8 + bytes.length + weights.byteLength - 8 - size)
    new DataView(out.buffer).setBigUint64(0, BigInt(bytes.length), true)
    out.set(bytes, 8)
    out.set(new Uint8Array(weights, 8 + size), 8 + bytes.length)
    return out.buffer
  }
  await refused(
    header(content => {
      delete content.__metadata__
    }),
    "foreign",
  )
  await refused(
    header(content => {
      content.__metadata__.hwkit = JSON.stringify({ ...JSON.parse(content.__metadata__.hwkit), steps: 4 })
    }),
    "steps",
  )
  await refused(
    header(content => {
      delete content["stem.weight"]
    }),
    "shape",
  )
  await refused(
    header(content => {
      content["stem.bias"].data_offsets[1] -= 2
    }),
    "broken",
  )
  await load_denoiser(
    runtime,
    site,
    read,
    header(() => {}),
  ) // untouched, it loads
})

test("half precision", () => {
  const halves = [0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0001, 0x8001, 0x03ff, 0x0400, 0x3555]
  const expected = [0, -0, 1, -2, 65504, 2 ** -24, -(2 ** -24), 1023 * 2 ** -24, 2 ** -14, 0.333251953125]
  assert.deepEqual([...of_halves(Uint16Array.from(halves))], expected)
  assert.deepEqual([...of_halves(Uint16Array.of(0x7c00, 0xfc00, 0x7e00))], [Infinity, -Infinity, NaN])
})
