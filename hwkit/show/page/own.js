/** Section "own": the reader's own export instead of the page's weights, read in this browser and sent nowhere. */

import { element, tell, words_of } from "./show.js"

export class OwnSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    this.last = Promise.resolve()
    const zone = element("own-zone"),
      input = element("own-file")
    input.onclick = () => (input.value = "") // else the same path, with a new file at it, would be no change
    input.onchange = () => this.load(input.files[0])
    zone.ondragover = (/** @type {DragEvent} */ event) => {
      event.preventDefault()
      zone.classList.add("over")
    }
    zone.ondragleave = () => zone.classList.remove("over")
    zone.ondrop = (/** @type {DragEvent} */ event) => {
      event.preventDefault()
      zone.classList.remove("over")
      this.load(event.dataTransfer?.files[0])
    }
  }

  /** One file after the other: two networks at once would leave page and worker on different ones. @param {File | undefined} file */
  load(file) {
    if (file) this.last = this.last.then(() => this.#load(file))
  }

  /** @param {File} file */
  async #load(file) {
    const said = element("own-said")
    tell("own-said", "working")
    said.classList.remove("warning")
    try {
      const known = await this.page.engine.ask("weights", { buffer: await file.arrayBuffer() }).done
      this.page.knows(known, file.name)
      tell("own-said", "own_loaded", { file: file.name })
    } catch (error) {
      tell("own-said", ...words_of(error, file.name))
      said.classList.add("warning")
    }
  }
}
