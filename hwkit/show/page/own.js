/** Section "own": the reader's own export instead of the page's weights. It is read in this browser and goes nowhere. */

import { element } from "./show.js"
import { say } from "./words.js"

export class OwnSection {
  /** @param {import("./page.js").Page} page */
  constructor(page) {
    this.page = page
    const zone = element("own-zone"), input = element("own-file")
    input.onchange = () => this.load(input.files[0])
    zone.ondragover = (/** @type {DragEvent} */ event) => { event.preventDefault(); zone.classList.add("over") }
    zone.ondragleave = () => zone.classList.remove("over")
    zone.ondrop = (/** @type {DragEvent} */ event) => {
      event.preventDefault()
      zone.classList.remove("over")
      this.load(event.dataTransfer?.files[0])
    }
  }

  /** @param {File | undefined} file */
  async load(file) {
    if (!file) return
    const said = element("own-said")
    said.textContent = say("working")
    said.classList.remove("warning")
    try {
      const known = await this.page.engine.ask("weights", { buffer: await file.arrayBuffer() }).done
      this.page.knows(known, file.name)
      said.textContent = say("own_loaded", { file: file.name })
    } catch (error) {
      said.textContent = this.page.words_of(error, file.name)
      said.classList.add("warning")
    }
  }
}
