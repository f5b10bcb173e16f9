/**
 * Noise from a seed, number for number that of hwkit/sampling.py's ImageNoise: image k of a seed is the same picture
 * here, in the notebooks and in generate/. So this is numpy's generator, PCG64 (O'Neill 2014) seeded by SeedSequence,
 * and its float32 normal distribution by the ziggurat (Marsaglia & Tsang 2000), which numpy keeps the same for good.
 */

const MASK64 = (1n << 64n) - 1n,
  MASK128 = (1n << 128n) - 1n
const MULTIPLIER = (2549297995355413924n << 64n) + 4865540595714422341n

/** numpy.random.default_rng([seed, k]), as far as ImageNoise uses it. */
export class Generator {
  /** @param {number[]} entropy whole numbers ≥ 0 */
  constructor(entropy) {
    const [a, b, c, d] = seed_words(entropy)
    this.increment = ((((c << 64n) | d) << 1n) | 1n) & MASK128
    this.state = (this.increment + ((a << 64n) | b)) & MASK128
    this.#step()
    this.high = -1 // the other half of the last 64 bits, or −1
  }

  #step() {
    this.state = (this.state * MULTIPLIER + this.increment) & MASK128
  }

  /** 32 random bits; of each 64 the lower half comes first. */
  uint32() {
    if (this.high >= 0) {
      const kept = this.high
      this.high = -1
      return kept
    }
    this.#step()
    const rotation = this.state >> 122n,
      folded = (this.state >> 64n) ^ (this.state & MASK64)
    const bits = ((folded >> rotation) | (folded << (64n - rotation))) & MASK64
    this.high = Number(bits >> 32n)
    return Number(bits & 0xffffffffn)
  }

  /** Uniform in [0, 1) with 24 bits. */
  float() {
    return (this.uint32() >>> 8) / 16777216
  }

  /** A number ~ N(0, 1), in float32. */
  normal() {
    for (;;) {
      const bits = this.uint32(),
        layer = bits & 0xff,
        negative = (bits >>> 8) & 1,
        r = (bits >>> 9) & 0x7fffff
      const x = Math.fround(r * WIDTH[layer]) * (negative ? -1 : 1)
      if (r < INSIDE[layer]) return x
      if (layer === 0) {
        for (;;) {
          const tail = Math.fround(-Math.log1p(-this.float()) / R),
            y = -Math.log1p(-this.float())
          if (y + y > tail * tail) return Math.fround(R + tail) * ((r >>> 8) & 1 ? -1 : 1)
        }
      }
      if ((HEIGHT[layer - 1] - HEIGHT[layer]) * this.float() + HEIGHT[layer] < Math.exp(-0.5 * x * x)) return x
    }
  }
}

/** `new ImageNoise(seed, numbers).draw()` → N(0, I) for each image, one after another; each has its own generator. */
export class ImageNoise {
  /** @param {number} seed @param {number[]} numbers of the images @param {number} size values that an image has */
  constructor(seed, numbers, size) {
    this.generators = numbers.map(k => new Generator([seed, k]))
    this.size = size
  }

  draw() {
    const values = new Float32Array(this.generators.length * this.size)
    this.generators.forEach((generator, n) => {
      for (let i = 0; i < this.size; i++) values[n * this.size + i] = generator.normal()
    })
    return values
  }
}

/**
 * Between a (0) and b (1): along the sphere on which such noise lies ("slerp"), or straight ("linear").
 * @param {Float32Array} a @param {Float32Array} b @param {number} part @param {string} kind
 */
export function between(a, b, part, kind) {
  let dot = 0,
    aa = 0,
    bb = 0
  for (let i = 0; i < a.length; i++) ((dot += a[i] * b[i]), (aa += a[i] ** 2), (bb += b[i] ** 2))
  const angle = Math.acos(Math.min(Math.max(dot / Math.sqrt(aa * bb), -1), 1))
  const straight = kind === "linear" || Math.sin(angle) < 1e-6
  const of_a = straight ? 1 - part : Math.sin((1 - part) * angle) / Math.sin(angle)
  const of_b = straight ? part : Math.sin(part * angle) / Math.sin(angle)
  return a.map((x, i) => of_a * x + of_b * b[i])
}

/** numpy's SeedSequence(entropy).generate_state(4, uint64). @param {number[]} entropy @returns {bigint[]} */
function seed_words(entropy) {
  const words = entropy.flatMap(number => {
    const parts = [number >>> 0]
    for (let rest = Math.floor(number / 2 ** 32); rest > 0; rest = Math.floor(rest / 2 ** 32)) parts.push(rest >>> 0)
    return parts
  })
  let hash = 0x43b0d7e5
  /** @param {number} value */
  const hashed = value => {
    value ^= hash
    hash = Math.imul(hash, 0x931e8875)
    value = Math.imul(value, hash)
    return (value ^ (value >>> 16)) >>> 0
  }
  /** @param {number} x @param {number} y */
  const mixed = (x, y) => {
    const z = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)
    return (z ^ (z >>> 16)) >>> 0
  }
  const pool = [0, 1, 2, 3].map(i => hashed(words[i] ?? 0))
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mixed(pool[to], hashed(pool[from]))
  }
  for (const word of words.slice(4)) for (let to = 0; to < 4; to++) pool[to] = mixed(pool[to], hashed(word))
  hash = 0x8b51f9dd
  const state = Array.from({ length: 8 }, (_, i) => {
    let value = pool[i % 4] ^ hash
    hash = Math.imul(hash, 0x58f38ded)
    value = Math.imul(value, hash)
    return BigInt((value ^ (value >>> 16)) >>> 0)
  })
  return [0, 2, 4, 6].map(i => state[i] | (state[i + 1] << 32n))
}

// The ziggurat: 255 layers of one area under the curve exp(−x²/2), layer 1 at the top; layer 0 is the base and the tail
// beyond R, and has the same area.

const R = 3.6541528853610088,
  AREA = 0.004928673233974658
const WIDTH = new Float32Array(256),
  HEIGHT = new Float32Array(256),
  INSIDE = new Uint32Array(256)

{
  const end = new Float64Array(256) // the right end of each layer
  end[255] = R
  for (let i = 254; i > 0; i--) end[i] = Math.sqrt(-2 * Math.log(AREA / end[i + 1] + Math.exp(-0.5 * end[i + 1] ** 2)))
  end[0] = AREA / Math.exp(-0.5 * R ** 2) // the width that the base would have without its tail
  for (let i = 0; i < 256; i++) {
    WIDTH[i] = end[i] / 2 ** 23
    HEIGHT[i] = i ? Math.exp(-0.5 * end[i] ** 2) : 1
    INSIDE[i] = i === 1 ? 0 : Math.floor((end[i ? i - 1 : 255] / end[i]) * 2 ** 23)
  }
}
