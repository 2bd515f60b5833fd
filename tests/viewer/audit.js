// Looks at a whole page: which elements and attributes it has, and every text it shows.
//
// Gives an async function of the number of the run's parts to walk through.
async (parts) => {
  const ADDRESSES = [
    "href", "src", "srcset", "srcdoc", "action", "formaction", "data", "poster", "ping",
    "background", "xlink:href",
  ];
  const SHOWN = ["title", "aria-label", "value", "placeholder", "aria-description"];
  const OURS = /^(https?:\/\/|#|runs\/[\w-]+\/trace\.html$)/;
  const app = document.getElementById("app");
  const tags = new Set();
  const bad = new Set();
  const texts = [];
  const drawn = () => new Promise((resolve) => setTimeout(resolve));

  function look(where) {
    for (const element of where.querySelectorAll("*")) {
      tags.add(element.localName);
      for (const attribute of element.attributes) check(element, attribute);
      if (element.value !== undefined) texts.push(String(element.value));
    }
  }

  function check(element, { name, value }) {
    const isOut = ADDRESSES.includes(name) && !OURS.test(value);
    const isStyled = name === "style" && /url\(|expression|@import/i.test(value);
    if (name.startsWith("on") || isOut || isStyled) bad.add(`${element.localName} ${name}=${value}`);
    if (SHOWN.includes(name)) texts.push(value);
  }

  async function press(key) {
    const told = { key, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new KeyboardEvent("keydown", told));
    await drawn();
  }

  async function unfold() {
    document.querySelectorAll("details:not([open])").forEach((each) => (each.open = true));
    document.querySelectorAll("[aria-expanded=false]").forEach((each) => each.click());
    await drawn();
  }

  const before = Object.getOwnPropertyNames(Object.prototype).join();
  await drawn();
  for (let part = 0; part < 3; part++) await press("k");
  await unfold();
  look(document);
  texts.push(app.textContent);
  // Laying it out takes most of the time, and changes nothing of what there is.
  app.style.display = "none";
  for (let part = 1; part < parts; part++) {
    await press("j");
    await unfold();
    const card = document.querySelector("article");
    look(card);
    texts.push(card.textContent);
  }
  app.style.display = "";
  look(document);
  if (Object.getOwnPropertyNames(Object.prototype).join() !== before) bad.add("a changed prototype");
  if ({}.polluted !== undefined) bad.add("a polluted prototype");
  if (window.__pwned !== undefined) bad.add("a script that ran");
  return { tags: [...tags], bad: [...bad], texts: `${texts.join("\n")}\n${document.title}` };
}
