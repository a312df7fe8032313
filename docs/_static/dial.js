// The dial: choose a cell, turn m. Points are the tables', lines are Eq. 12, 15 and 17 with the tables' parameters.
"use strict";
(() => {
  const { models, labels, cells } = window.DIAL;
  const root = document.getElementById("dial");
  const STEPS = 200; // of the slider on each side of 0
  const CURVES = [["preference", "preference log-odds"], ["utility", "utility log-odds"]];
  const label = (name) => labels[name] || name;
  const said = (number) => number === null || number === undefined ? "–"
    : (Object.is(number, -0) ? 0 : Math.abs(number) < 0.1 && number ? number.toFixed(3) : Math.abs(number) < 10 ? number.toFixed(2) : number.toFixed(1)).toString().replace("-", "−");
  const strength = (m) => (m > 0 ? "+" : "") + said(m);

  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "g", "path", "circle", "line", "text", "title"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // the equations
  const validity = (m, f) => m >= 0
    ? (1 + (m - f.m_plus) ** 2 / f.L_plus) ** -f.p_plus : (1 + (m - f.m_minus) ** 2 / f.L_minus) ** -f.p_minus;
  const fitted = (kind, m, f) => kind === "preference"
    ? (f.alpha * m + f.beta) * validity(m, f) + f.b : f.beta_u * validity(m, f) + f.b_u;

  // the controls
  const CHOICES = [["model", "Model"], ["task", "Task"], ["form", "Form of steering"], ["objective", "Objective"], ["split", "Measured on"]];
  const selects = {};
  const choices = make("div", { class: "choices" });
  for (const [key, words] of CHOICES) {
    selects[key] = make("select", { id: `dial-${key}` });
    choices.append(make("div", {}, make("label", { for: `dial-${key}` }, words), selects[key]));
  }
  const slider = make("input", { type: "range", id: "dial-m", min: -STEPS, max: STEPS, step: 1 });
  const output = make("output", { for: "dial-m" });
  const back = make("button", { type: "button", "aria-label": "previous measured strength" }, "◀");
  const on = make("button", { type: "button", "aria-label": "next measured strength" }, "▶");
  const turn = make("div", { class: "turn" },
    make("label", { for: "dial-m" }, "Strength m, in matching strengths: ", output), back, slider, on);
  const readout = make("div"), plots = make("div"), answers = make("div", { class: "answers" }), note = make("p", { class: "note" });
  root.append(choices, turn, plots, readout, note, answers);

  let cell, points, m = 0, limit = 1;
  const position = (x) => Math.asinh(x) / Math.asinh(limit); // -1 .. 1
  const place = (p) => Math.sinh(p * Math.asinh(limit));

  function fill(key, values, words) {
    const old = selects[key].value;
    selects[key].replaceChildren(...values.map((value) => make("option", { value }, words(value))));
    selects[key].value = values.includes(old) ? old : values[0];
  }

  // each list depends on the choices before it
  function choose(start) {
    let left = cells;
    for (const [key] of CHOICES.slice(0, 4)) {
      const values = [...new Set(left.map((c) => c[key]))];
      fill(key, values, key === "model" ? (name) => `${models.find((x) => x.name === name).real ? "real" : "tiny"}: ${name}` : label);
      if (start && start[key] && values.includes(start[key])) selects[key].value = start[key];
      left = left.filter((c) => c[key] === selects[key].value);
    }
    cell = left[0];
    fill("split", Object.keys(cell.splits), (split) => `${cell.splits[split].pairs} ${split === "train" ? "training" : split} pairs`);
    points = cell.splits[selects.split.value];
    limit = Math.max(...points.m_relative.map(Math.abs));
    m = Math.max(-limit, Math.min(limit, m));
    draw();
    show();
  }

  // the pictures
  const LEFT = 50, RIGHT = 14;
  let W = 720;
  const X = (value) => LEFT + (position(value) + 1) / 2 * (W - LEFT - RIGHT);
  const hands = [], dots = [];

  function panel(title, height, low, high, describe) {
    const svg = make("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": describe });
    const top = 26, bottom = height - 24;
    const Y = (value) => bottom - (value - low) / (high - low) * (bottom - top);
    for (const value of (W < 450 ? [0, 1, 5, 50] : [0, 1, 5, 20, 50]).flatMap((v) => v ? [-v, v] : [0]).filter((v) => Math.abs(v) <= limit)) {
      svg.append(make("line", { class: "axis", x1: X(value), x2: X(value), y1: top, y2: bottom }),
        make("text", { class: "tick", x: X(value), y: height - 8, "text-anchor": "middle" }, String(value).replace("-", "−")));
    }
    for (const value of [low, (low + high) / 2, high]) {
      svg.append(make("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: Y(value), y2: Y(value) }),
        make("text", { class: "tick", x: LEFT - 6, y: Y(value) + 4, "text-anchor": "end" }, said(value)));
    }
    const hand = make("line", { class: "hand", y1: top, y2: bottom });
    hands.push(hand);
    svg.append(title, hand);
    const follow = (event) => {
      const box = svg.getBoundingClientRect();
      const p = ((event.clientX - box.left) / box.width * W - LEFT) / (W - LEFT - RIGHT) * 2 - 1;
      set(place(Math.max(-1, Math.min(1, p))));
    };
    svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); follow(event); });
    svg.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
    plots.append(svg);
    return { svg, Y, low, high };
  }

  function line({ svg, Y, low, high }, kind, f, value) {
    const steps = Array.from({ length: 2 * STEPS + 1 }, (_, i) => place((i - STEPS) / STEPS));
    let path = "", pen = "M"; // lifted where the line leaves the panel
    for (const x of steps) {
      const y = value(x, f), inside = y >= low && y <= high;
      if (inside) path += `${pen}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`;
      pen = inside ? "L" : "M";
    }
    svg.append(make("path", { class: kind, d: path }));
  }

  function draw() {
    plots.replaceChildren();
    W = Math.max(300, Math.min(760, root.clientWidth));
    hands.length = dots.length = 0;
    for (const [kind, words] of CURVES) {
      const f = cell.fits[kind];
      const there = points[kind].filter((y) => y !== null);
      const low = Math.min(...there), high = Math.max(...there), pad = (high - low) * 0.1 || 1;
      const title = make("text", { class: `name ${kind}`, x: LEFT, y: 16 }, `${kind}: ○ measured, ${f ? `line fitted (R² ${f.r2.toFixed(2)})` : "no fit"}`);
      const box = panel(title, 210, low - pad, high + pad, `${words} against the strength m; the numbers at the dial are in the table below`);
      if (f) line(box, kind, f, (x) => fitted(kind, x, f));
      points.m_relative.forEach((x, i) => {
        if (points[kind][i] === null) return;
        const dot = make("circle", { class: kind, cx: X(x), cy: box.Y(points[kind][i]), r: 4 });
        dots.push([i, dot]);
        box.svg.append(dot);
      });
    }
    const title = make("text", { x: LEFT, y: 16 }, "D(m), fitted: — of preference, - - of utility");
    const box = panel(title, 150, 0, 1, "fitted validity D against the strength m");
    for (const [kind] of CURVES) if (cell.fits[kind]) line(box, kind, cell.fits[kind], validity);
  }

  const nearest = (values) => values.reduce((best, x, i) => Math.abs(position(x) - position(m)) < Math.abs(position(values[best]) - position(m)) - 1e-9 ? i : best, 0);

  function show() {
    const words = strength(m);
    slider.value = Math.round(position(m) * STEPS);
    slider.setAttribute("aria-valuetext", `m = ${words}`);
    output.textContent = words;
    for (const hand of hands) for (const end of ["x1", "x2"]) hand.setAttribute(end, X(m));
    const i = nearest(points.m_relative);
    for (const [k, dot] of dots) dot.classList.toggle("near", k === i);
    const rows = CURVES.map(([kind, name]) => {
      const f = cell.fits[kind];
      return make("tr", { class: kind }, make("th", { scope: "row" }, name), make("td", {}, said(points[kind][i])),
        make("td", {}, f ? said(fitted(kind, m, f)) : "–"), make("td", {}, f ? said(validity(m, f)) : "–"));
    });
    const heads = ["", `measured at ${strength(points.m_relative[i])}`, `fitted at ${words}`, `D(m) at ${words}`].map((text) => make(text ? "th" : "td", text ? { scope: "col" } : {}, text));
    readout.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
    const flagged = CURVES.filter(([kind]) => cell.fits[kind] && cell.fits[kind].flagged).map(([, name]) => name);
    note.textContent = `Log-odds in nats, means over ${points.pairs} pairs, seed ${cell.seed}.`
      + " R² is of the training pairs' points."
      + (flagged.length ? ` A second solver found another fit of ${flagged.join(" and ")}.` : "");
    answer();
    history.replaceState(null, "", "#" + new URLSearchParams({ ...Object.fromEntries(CHOICES.map(([key]) => [key, selects[key].value])), m: String(Number(m.toPrecision(4))) }));
  }

  function answer() {
    answers.replaceChildren();
    if (!cell.answers.length) {
      answers.append(make("p", { class: "note" }, "No answers of this choice are in the committed tables."));
      return;
    }
    const strengths = [...new Set(cell.answers.map((a) => a.m))];
    const own = strengths[nearest(strengths)];
    const box = (title, at) => make("section", {}, make("h3", {}, title),
      ...cell.answers.filter((a) => a.m === at).flatMap((a) => [make("p", { class: "note" }, a.question), make("p", {}, a.answer.trim() || "(empty)")]));
    answers.append(box("Unsteered (m = 0)", 0));
    if (own) answers.append(box(`Steered: recorded at m = ${strength(own)}`, own));
    else answers.append(make("p", { class: "note" }, `Nearest recorded answer: the unsteered one. Others are at m = ${strengths.filter(Boolean).map(strength).join(", ")}.`));
  }

  function set(value) { m = value; show(); }
  const measured = (side) => {
    const beyond = points.m_relative.filter((x) => side * (x - m) > 1e-6);
    if (beyond.length) set(side > 0 ? Math.min(...beyond) : Math.max(...beyond));
  };
  for (const [key] of CHOICES) selects[key].addEventListener("change", () => choose());
  slider.addEventListener("input", () => set(place(slider.value / STEPS)));
  back.addEventListener("click", () => measured(-1));
  on.addEventListener("click", () => measured(1));

  window.addEventListener("resize", () => { draw(); show(); });

  const start = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (Number.isFinite(Number(start.m))) m = Number(start.m);
  choose(start);
})();
