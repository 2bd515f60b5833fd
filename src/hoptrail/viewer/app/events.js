// Server-sent events, as a server writes them.

/** Reads server-sent events out of text that comes in any pieces. */
class EventReader {
  #rest = "";
  #event = { type: "", data: [] };
  #id = "";

  *take(piece) {
    // A carriage return at the very end may be the half of a line end.
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else yield* this.#whole();
    }
  }

  #field(line) {
    const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/su.exec(line);
    if (name === "data") this.#event.data.push(value);
    else if (name === "event") this.#event.type = value;
    else if (name === "id") this.#id = value;
  }

  *#whole() {
    const { type, data } = this.#event;
    this.#event = { type: "", data: [] };
    if (data.length > 0) yield { type, id: this.#id, data: data.join("\n") };
  }
}
