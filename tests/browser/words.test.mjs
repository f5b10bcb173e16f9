// Words: both languages say everything, with the same values in it, and the page asks for nothing that is not there.

import assert from "node:assert/strict"
import { readFileSync, readdirSync } from "node:fs"
import { test } from "node:test"

const page = process.env.HWKIT_PAGE
const { WORDS } = await import(`${page}/words.js`)
const names = words => [...words.matchAll(/\{(\w+)\}/g)].map(match => match[1])
const sources = readdirSync(page)
  .filter(name => name.endsWith(".js") && name !== "words.js")
  .map(name => readFileSync(`${page}/${name}`, "utf8"))
const html = readFileSync(`${page}/index.html`, "utf8")

test("both languages have the same words, none of them empty", () => {
  assert.deepEqual(Object.keys(WORDS.en), Object.keys(WORDS.zh))
  for (const language of ["en", "zh"]) for (const words of Object.values(WORDS[language])) assert.ok(words.trim())
})

test("both put the same values in", () => {
  const alike = { millions: "size", ten_thousands: "size" } // a language counts as it does
  for (const key of Object.keys(WORDS.en)) {
    const [en, zh] = [WORDS.en, WORDS.zh].map(words =>
      names(words[key])
        .map(name => alike[name] ?? name)
        .sort(),
    )
    assert.deepEqual(en, zh, key)
  }
})

test("what is Chinese is Chinese, and Taiwan's", () => {
  const plain = new Set(["other_language", "dpm", "error_picture", "colon"])
  for (const [key, words] of Object.entries(WORDS.zh)) if (!plain.has(key)) assert.match(words, /\p{Script=Han}/u, key)
  assert.doesNotMatch(Object.values(WORDS.zh).join(), /[网络噪声样张图这个们时样]|噪聲|網絡|圖像|採樣|采样|信噪/u)
})

test("every word that is asked for is there, and every word is asked for", () => {
  const asked = new Set([...html.matchAll(/data-word="(\w+)"/g)].map(match => match[1]))
  const code = sources.join("\n")
  for (const [, key] of code.matchAll(/\b(?:say\(|tell\("[\w-]+", )"(\w+)"/g)) asked.add(key)
  for (const key of asked) assert.ok(key in WORDS.en, key)
  for (const key of Object.keys(WORDS.en))
    assert.ok(asked.has(key) || key.startsWith("trouble_") || code.includes(`"${key}"`), `${key} is not used`)
})

test("every trouble has its sentence", () => {
  const keys = sources.flatMap(code => [...code.matchAll(/new Trouble\("(\w+)"/g)].map(match => match[1]))
  assert.ok(keys.length > 3)
  for (const key of keys) assert.ok(`trouble_${key}` in WORDS.en, key)
})
