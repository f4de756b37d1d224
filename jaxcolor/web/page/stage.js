// The photo with its boxes and hints: what is drawn, and what pointers and keys do there. Places are in photo pixels.

const LEAST_DRAG = 4; // CSS pixels: below it is a click
const LEAST_BOX = 8; // CSS pixels a side

export class Stage {
  // does: pick(x, y), addBox(box), changeBox(i, box), openBox(i), removeBox(i), moveHint(i, x, y), openHint(i), removeHint(i)
  constructor(root, does) {
    this.root = root;
    this.does = does;
    this.overlay = root.querySelector("#overlay");
    this.cross = root.querySelector("#cross");
    this.size = { width: 1, height: 1 };
    this.at = null;
    root.addEventListener("pointerdown", (event) => this.onPointer(event));
    root.addEventListener("keydown", (event) => this.onKey(event));
    root.addEventListener("blur", () => (this.cross.hidden = true));
  }

  get drawsBoxes() {
    return this.root.classList.contains("objects");
  }

  // Draw the marks anew; the focus stays where it was.
  draw(size, boxes, hints) {
    this.size = size;
    this.boxes = boxes;
    this.hints = hints;
    const focused = this.overlay.contains(document.activeElement) ? document.activeElement.dataset.mark : null;
    this.overlay.replaceChildren(
      ...boxes.map((box, i) => this.boxMark(box, i)),
      ...hints.map((hint, i) => (hint.object === undefined ? this.hintMark(hint, i) : null)).filter(Boolean),
    );
    if (focused) this.overlay.querySelector(`[data-mark="${focused}"]`)?.focus();
  }

  boxMark(box, i) {
    const mark = document.createElement("div");
    mark.className = "box";
    mark.tabIndex = 0;
    mark.dataset.mark = `box ${i}`;
    mark.setAttribute("role", "button");
    mark.setAttribute(
      "aria-label",
      `Object ${i + 1}. Enter: its color. Arrow keys: move it. Shift and arrow keys: its size. Delete: remove it.`,
    );
    const label = document.createElement("b");
    label.textContent = i + 1;
    mark.append(label);
    for (let corner = 0; corner < 4; corner++) {
      const handle = document.createElement("i");
      handle.dataset.corner = corner;
      mark.append(handle);
    }
    const given = this.hints.filter((hint) => hint.object === i).pop();
    if (given) mark.style.borderColor = given.rgb;
    this.placeBox(mark, box);
    return mark;
  }

  placeBox(mark, [x0, y0, x1, y1]) {
    const { width, height } = this.size;
    mark.style.left = `${(100 * x0) / width}%`;
    mark.style.top = `${(100 * y0) / height}%`;
    mark.style.width = `${(100 * (x1 - x0)) / width}%`;
    mark.style.height = `${(100 * (y1 - y0)) / height}%`;
  }

  hintMark(hint, i) {
    const mark = document.createElement("button");
    mark.className = "dot";
    mark.dataset.mark = `hint ${i}`;
    mark.style.background = hint.rgb;
    mark.setAttribute("aria-label", `Color ${hint.rgb}. Enter: change it. Arrow keys: move it. Delete: remove it.`);
    this.placeHint(mark, hint);
    return mark;
  }

  placeHint(mark, { x, y }) {
    mark.style.left = `${(100 * x) / this.size.width}%`;
    mark.style.top = `${(100 * y) / this.size.height}%`;
  }

  // Where an event lies, inside the photo.
  place(event) {
    const bounds = this.root.getBoundingClientRect();
    return this.inside(
      ((event.clientX - bounds.left) / bounds.width) * this.size.width,
      ((event.clientY - bounds.top) / bounds.height) * this.size.height,
    );
  }

  inside(x, y) {
    const { width, height } = this.size;
    const fit = (value, length) => Math.round(10 * Math.min(Math.max(value, 0), length - 0.1)) / 10;
    return { x: fit(x, width), y: fit(y, height) };
  }

  onPointer(event) {
    if (event.button !== 0) return;
    const mark = event.target.closest("[data-mark]");
    const start = this.place(event);
    if (mark?.dataset.mark.startsWith("hint")) this.dragHint(event, mark, Number(mark.dataset.mark.slice(5)));
    else if (mark && this.drawsBoxes) this.dragBox(event, mark, Number(mark.dataset.mark.slice(4)), start);
    else if (this.drawsBoxes) this.drawBox(event, start);
    else this.follow(event, () => {}, (moved) => moved || this.does.pick(start.x, start.y));
  }

  // Call moving(place) while the pointer moves, then ended(whether it moved, place); after a cancel ended(true, null).
  follow(event, moving, ended) {
    const { pointerId, clientX, clientY } = event;
    let moved = false;
    const on = (name, handle) => {
      const listener = (next) => next.pointerId === pointerId && handle(next);
      window.addEventListener(name, listener);
      return () => window.removeEventListener(name, listener);
    };
    const stop = [
      on("pointermove", (next) => {
        moved ||= Math.hypot(next.clientX - clientX, next.clientY - clientY) >= LEAST_DRAG;
        if (moved) moving(this.place(next));
      }),
      on("pointerup", (next) => finish(moved, this.place(next))),
      on("pointercancel", () => finish(true, null)),
    ];
    const finish = (...result) => {
      stop.forEach((off) => off());
      ended(...result);
    };
  }

  dragHint(event, mark, i) {
    event.preventDefault();
    mark.focus();
    this.follow(
      event,
      (at) => this.placeHint(mark, at),
      (moved, at) => {
        if (!moved) this.does.openHint(i);
        else if (at) this.does.moveHint(i, at.x, at.y);
        else this.placeHint(mark, this.hints[i]);
      },
    );
  }

  dragBox(event, mark, i, start) {
    event.preventDefault();
    mark.focus();
    const box = this.boxes[i];
    const corner = event.target.dataset.corner;
    const changed = (at) => {
      if (corner === undefined) return this.shifted(box, at.x - start.x, at.y - start.y);
      const fixed = [
        [box[2], box[3]],
        [box[0], box[3]],
        [box[0], box[1]],
        [box[2], box[1]],
      ][corner];
      return this.spanned({ x: fixed[0], y: fixed[1] }, at);
    };
    this.follow(
      event,
      (at) => this.placeBox(mark, changed(at)),
      (moved, at) => {
        if (!moved) this.does.openBox(i);
        else if (at && this.largeEnough(changed(at))) this.does.changeBox(i, changed(at));
        else this.placeBox(mark, box);
      },
    );
  }

  drawBox(event, start) {
    event.preventDefault();
    const mark = document.createElement("div");
    mark.className = "box";
    this.overlay.append(mark);
    this.follow(
      event,
      (at) => this.placeBox(mark, this.spanned(start, at)),
      (moved, at) => {
        mark.remove();
        if (moved && at && this.largeEnough(this.spanned(start, at))) this.does.addBox(this.spanned(start, at));
      },
    );
  }

  // The box between two corners, in whole pixels.
  spanned(a, b) {
    const { width, height } = this.size;
    const low = (u, v) => Math.round(Math.min(u, v));
    const high = (u, v, most) => Math.min(Math.round(Math.max(u, v)), most);
    return [low(a.x, b.x), low(a.y, b.y), high(a.x, b.x, width), high(a.y, b.y, height)];
  }

  shifted([x0, y0, x1, y1], dx, dy) {
    const { width, height } = this.size;
    const x = Math.round(Math.min(Math.max(dx, -x0), width - x1));
    const y = Math.round(Math.min(Math.max(dy, -y0), height - y1));
    return [x0 + x, y0 + y, x1 + x, y1 + y];
  }

  largeEnough([x0, y0, x1, y1]) {
    const scale = this.root.getBoundingClientRect().width / this.size.width;
    return Math.min(x1 - x0, y1 - y0) >= 1 && Math.max(x1 - x0, y1 - y0) * scale >= LEAST_BOX;
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const mark = event.target.closest("[data-mark]");
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const step = Math.max(this.size.width, this.size.height) / 100;
    if (mark) this.onMarkKey(event, mark, arrow, step);
    else if (arrow) {
      event.preventDefault();
      const at = this.at ?? { x: this.size.width / 2, y: this.size.height / 2 };
      this.at = this.inside(at.x + step * arrow[0], at.y + step * arrow[1]);
      this.cross.hidden = false;
      this.placeHint(this.cross, this.at);
    } else if ((event.key === "Enter" || event.key === " ") && event.target === this.root) {
      event.preventDefault();
      const at = this.at ?? { x: this.size.width / 2, y: this.size.height / 2 };
      this.does.pick(at.x, at.y);
    }
  }

  onMarkKey(event, mark, arrow, step) {
    const [kind, number] = mark.dataset.mark.split(" ");
    const i = Number(number);
    const isBox = kind === "box";
    if (arrow && isBox) {
      const [dx, dy] = arrow.map((direction) => Math.max(1, Math.round(step)) * direction);
      const [x0, y0, x1, y1] = this.boxes[i];
      const grown = this.spanned({ x: x0, y: y0 }, { x: Math.max(x1 + dx, x0 + 1), y: Math.max(y1 + dy, y0 + 1) });
      this.does.changeBox(i, event.shiftKey ? grown : this.shifted(this.boxes[i], dx, dy));
    } else if (arrow) {
      const at = this.inside(this.hints[i].x + step * arrow[0], this.hints[i].y + step * arrow[1]);
      this.does.moveHint(i, at.x, at.y);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      isBox ? this.does.removeBox(i) : this.does.removeHint(i);
      this.root.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      isBox ? this.does.openBox(i) : this.does.openHint(i);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
