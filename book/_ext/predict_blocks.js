/* Makes a form of each block that predict_blocks.py has written. Without this script its <details> answer. */
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".fragile-predict")) ask(box);

  function ask(box) {
    const folds = [...box.querySelectorAll(":scope > details")];
    const replies = folds.map((fold) => moved(fold));
    const names = folds.map((fold) => fold.className);
    const value = Number(box.dataset.value), within = Number(box.dataset.within);
    const form = document.createElement("form");
    const button = element("button", "Commit");
    const said = element("div");
    said.setAttribute("role", "status");
    said.append(...replies);
    const inputs = "value" in box.dataset ? number(box, form) : choices(form);
    form.append(button);
    box.append(form, said);

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const committed = !box.classList.contains("committed");
      box.classList.toggle("committed", committed);
      button.textContent = committed ? "Choose again" : "Commit";
      for (const input of inputs) input.disabled = committed;
      show(committed ? shown() : []);
    });

    function shown() {
      if (inputs.length > 1) return [names[inputs.findIndex((input) => input.checked)], "why"];
      const off = Number(inputs[0].value) - value;
      if (Math.abs(off) <= within) return ["right", "why"];
      return [off < 0 ? "low" : "high", "right", "why"];
    }

    /* Of several wrong choices the one that was chosen answers. */
    function show(wanted) {
      const chosen = inputs.length > 1 ? inputs.findIndex((input) => input.checked) : -1;
      replies.forEach((reply, i) => {
        const mine = names[i] === "why" || chosen < 0 || chosen === i;
        reply.hidden = !(mine && wanted.includes(names[i]));
      });
      inputs.forEach((input, i) => {
        if (inputs.length > 1) input.parentElement.classList.toggle("is-right", wanted.length > 0 && names[i] === "right");
      });
    }

    function choices(form) {
      const group = element("fieldset");
      group.append(element("legend", "Your prediction"));
      const made = folds.slice(0, -1).map((fold) => {
        const label = element("label");
        const input = element("input");
        Object.assign(input, { type: "radio", name: box.id, required: true });
        label.append(input, element("span", fold.dataset.summary));
        group.append(label);
        return input;
      });
      form.append(group);
      return made;
    }
  }

  function number(box, form) {
    const label = element("label", "Your estimate");
    const input = element("input");
    Object.assign(input, { type: "number", step: "any", required: true });
    label.append(input, box.dataset.unit || "");
    form.append(label);
    return [input];
  }

  /* What a fold holds, out of it and hidden. */
  function moved(fold) {
    const reply = element("div");
    reply.hidden = true;
    reply.className = fold.className;
    const summary = fold.querySelector("summary");
    fold.dataset.summary = summary.textContent;
    summary.remove();
    reply.append(...fold.childNodes);
    fold.remove();
    return reply;
  }

  function element(name, text) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    return made;
  }
});
