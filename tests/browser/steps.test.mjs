// The equations against hwkit's: schedule.js, steps.js, sampling.js, noise.js, on the cases of test_page_in_node.py.

import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"

const load = name => import(`${process.env.HWKIT_PAGE}/${name}.js`)
const [{ SCHEDULES, linear, cosine }, steps, sampling, { ImageNoise, between }] = await Promise.all(
  ["schedule", "steps", "sampling", "noise"].map(load),
)
const cases = JSON.parse(readFileSync(process.env.HWKIT_CASES, "utf8"))
const { predict_x0_eps, q_sample } = steps
const { sample, step_of, times } = sampling

function close(found, expected, tolerance, what) {
  assert.equal(found.length, expected.length, what)
  expected.forEach((value, i) =>
    assert.ok(Math.abs(found[i] - value) <= tolerance, `${what}: ${found[i]} at ${i}, not ${value}`),
  )
}

test("schedules", () => {
  for (const { name, arguments: given, alpha_bar } of cases.schedules) {
    close((name === "linear" ? linear : cosine)(...given).alpha_bar, alpha_bar, 1e-12, `${name} ${given}`)
  }
})

test("the time of a share of the image is where the schedule has it", () => {
  for (const name of ["linear", "cosine"]) {
    const schedule = SCHEDULES[name](830)
    for (let t = 1; t <= 830; t++) assert.equal(schedule.time_of(schedule.alpha_bar[t]), t)
    assert.equal(schedule.time_of(1), 1)
    assert.equal(schedule.time_of(0), 830)
  }
})

test("times", () => {
  for (const { T, steps, times: expected } of cases.times) assert.deepEqual(times(T, steps), expected, `${T}, ${steps}`)
  assert.throws(() => times(10, 11), RangeError)
  assert.throws(() => times(10, 0), RangeError)
})

test("noise is numpy's, number for number", () => {
  for (const { seed, numbers, size, draws } of cases.noise) {
    const source = new ImageNoise(seed, numbers, size)
    for (const expected of draws) close(source.draw(), expected, 1e-6, `seed ${seed}`)
  }
})

test("forward process and predictions", () => {
  for (const { prediction, alpha_bar, x, y, x_t, x0_hat, eps_hat } of cases.forward) {
    close(q_sample(Float32Array.from(x), alpha_bar, Float32Array.from(y)), x_t, 1e-5, "q_sample")
    const [x0, eps] = predict_x0_eps(Float32Array.from(y), Float32Array.from(x), alpha_bar, prediction)
    close(x0, x0_hat, 1e-5, `x0 of ${prediction}`)
    close(eps, eps_hat, 3e-5, `ε of ${prediction}`) // of values up to 1/√(1 − 0.999) = 32
  }
})

test("steps", () => {
  for (const { sampler, eta = 0, t, s, x_t, x0_hat, eps_hat, noise, past, x_s } of cases.steps) {
    const of = values => Float32Array.from(values),
      step = step_of({ name: sampler, eta })
    const found = step(
      of(x_t),
      of(x0_hat),
      of(eps_hat),
      t,
      s,
      of(noise),
      past.map(([share, x]) => [share, of(x)]),
    )
    close(found, x_s, 1e-5, `${sampler} η = ${eta}, ᾱ ${t} → ${s}`)
  }
})

test("whole ways", async () => {
  const schedule = linear(830)
  for (const { sampler, eta, steps, frames } of cases.ways) {
    const source = new ImageNoise(5, [1, 2], 48)
    const denoise = async (x_t, t) =>
      predict_x0_eps(
        x_t.map(x => Math.tanh(2 * x)),
        x_t,
        schedule.alpha_bar[t],
        "x0",
      )
    let k = 0
    for await (const { x_t } of sample(
      denoise,
      source.draw(),
      times(830, steps),
      schedule.alpha_bar,
      step_of({ name: sampler, eta }),
      () => source.draw(),
    )) {
      close(x_t, frames[k++], 1e-5, `${sampler} η = ${eta}, frame ${k} of ${frames.length}`)
    }
    assert.equal(k, frames.length)
  }
})

test("mistakes are what they are called", async () => {
  const { MISTAKES, predict_with, step_with, strided, times_with } = await load("mistakes")
  assert.deepEqual(times_with(830, 20, []), times(830, 20))
  assert.deepEqual(strided(830, 50).slice(-2), [46, 30], "ends above 0")
  assert.deepEqual(times_with(830, 50, ["strides"]), strided(830, 50))
  const x = Float32Array.of(-3, 0.2, 3),
    clipped = predict_with(x, x, 0.5, "x0", [])[0]
  close(clipped, [-1, 0.2, 1], 1e-7, "clipped")
  close(predict_with(x, x, 0.5, "x0", ["clip"])[0], [-3, 0.2, 3], 1e-6, "not clipped")
  close(predict_with(x, x, 0.5, "x0", ["range"])[0], [0, 0.2, 1], 1e-7, "to [0, 1]")
  const step = step_of({ name: "ddpm", eta: 0 }),
    noisy = step_with(step, ["noise"]),
    one = Float32Array.of(1, 1, 1)
  const last = [x, clipped, x, 0.9, 1, one, []],
    before = [x, clipped, x, 0.5, 0.9, one, []]
  close(
    noisy(...last).map((value, i) => value - step(...last)[i]),
    [0.3162, 0.3162, 0.3162],
    1e-3,
    "√β of noise",
  )
  assert.deepEqual(noisy(...before), step(...before))
  assert.equal(MISTAKES.length, 5)
})

test("a walk on the sphere keeps the length of the noise, a straight one does not", () => {
  const source = new ImageNoise(0, [1, 2], 2352).draw(),
    a = source.slice(0, 2352),
    b = source.slice(2352)
  const length = x => Math.hypot(...x)
  close(between(a, b, 0, "slerp"), [...a], 1e-6, "begins at a")
  close(between(a, b, 1, "slerp"), [...b], 1e-6, "ends at b")
  assert.ok(Math.abs(length(between(a, b, 0.5, "slerp")) / length(a) - 1) < 0.03)
  assert.ok(length(between(a, b, 0.5, "linear")) / length(a) < 0.75)
})
