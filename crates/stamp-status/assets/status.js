// Puts newer numbers in the places of the old ones. The server decides what is shown and in which words;
// this file makes no text of its own but about whether the numbers are live. Names are only ever set as
// text, never as HTML.
"use strict";

(() => {
  const EVERY_MS = 2_000;
  const PAUSE_MAX_MS = 30_000;
  const ANSWER_MAX_MS = 10_000;
  const STALE_MS = 10_000;
  const TYPING_MS = 250;
  const SVG = "http://www.w3.org/2000/svg";

  const find = (selector, within = document) => within.querySelector(selector);
  const live = find("#live");
  const pause = find("#pause");
  const input = find("#tenant");

  const state = {
    clock: null, // the server's, of the numbers that are shown
    asked: null, // the request under way
    answered: performance.now(),
    failures: 0,
    paused: false,
    timer: 0,
    filter: input ? input.value.trim() : "",
  };

  const setText = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };
  const setAttribute = (element, name, value) => {
    if (value === undefined || value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const make = (name, attributes = {}) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const makeSvg = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // Pictures.

  const makeBar = () => {
    const bar = makeSvg("svg", {
      class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", focusable: "false", "aria-hidden": "true",
    });
    bar.append(
      makeSvg("rect", { class: "track", width: "100", height: "6" }),
      makeSvg("rect", { class: "part", width: "0", height: "6" }),
    );
    return bar;
  };
  const makeSpark = () => {
    const spark = makeSvg("svg", {
      class: "spark", viewBox: "0 0 120 28", preserveAspectRatio: "none", focusable: "false",
    });
    spark.append(makeSvg("polyline", {}));
    return spark;
  };
  const showBar = (parent, share) => {
    let bar = find(".bar", parent);
    if (share === undefined) {
      if (bar) bar.remove();
      return;
    }
    if (!bar) parent.append(bar = makeBar());
    setAttribute(find(".part", bar), "width", (share * 100).toFixed(1));
  };

  // Figures and tables.

  const showFigure = (figure) => {
    const box = find(`.figure[data-id="${CSS.escape(figure.id)}"]`);
    if (!box) return;
    setAttribute(box, "data-level", figure.level);
    setText(find(".value", box), figure.text);
    setText(find(".note", box), figure.note);
    const picture = find(".picture", box);
    if (figure.spark) {
      let spark = find(".spark", picture);
      if (!spark) picture.replaceChildren(spark = makeSpark());
      setAttribute(find("polyline", spark), "points", figure.spark);
    } else {
      showBar(picture, figure.share);
    }
  };

  const showCell = (place, cell, column) => {
    place.className = column.is_number ? "number" : "";
    setAttribute(place, "data-level", cell.level);
    place.toggleAttribute("data-nothing", cell.value === null);
    const name = cell.link ? "A" : "SPAN";
    let text = find(".text", place);
    if (!text || text.tagName !== name) {
      const fresh = make(name.toLowerCase(), cell.link ? { class: "text", rel: "noreferrer" } : { class: "text" });
      if (text) text.replaceWith(fresh);
      else place.prepend(fresh);
      text = fresh;
    }
    if (cell.link) setAttribute(text, "href", cell.link);
    setText(text, cell.text);
    showBar(place, cell.share);
  };

  const makeRow = (columns) => {
    const row = make("tr", { role: "row" });
    for (const column of columns) row.append(make("td", { role: "cell", "data-label": column.label }));
    return row;
  };

  // Rows that stay are kept as elements, so that a focus in them stays too.
  const showSection = (section) => {
    const box = document.getElementById(section.id);
    if (!box) return;
    setText(find(".about", box), section.about);
    const heads = find("thead tr", box);
    if (heads.children.length !== section.columns.length) {
      heads.replaceChildren(...section.columns.map((column) => {
        const head = make("th", { role: "columnheader", scope: "col" });
        if (column.is_number) head.className = "number";
        head.textContent = column.label;
        return head;
      }));
      find("tbody", box).replaceChildren();
    }
    const body = find("tbody", box);
    const known = new Map([...body.children].map((row) => [row.getAttribute("data-id"), row]));
    let place = body.firstElementChild;
    for (const row of section.rows) {
      const element = known.get(row.id) || makeRow(section.columns);
      known.delete(row.id);
      setAttribute(element, "data-id", row.id);
      setAttribute(element, "data-level", row.level);
      section.columns.forEach((column, at) => showCell(element.children[at], row.cells[column.id], column));
      if (element === place) place = place.nextElementSibling;
      else body.insertBefore(element, place);
    }
    for (const gone of known.values()) gone.remove();
    find(".scroll", box).hidden = section.rows.length === 0;
    const empty = find(".empty", box);
    empty.hidden = section.rows.length !== 0;
    setText(empty, section.empty);
    const more = find(".more", box);
    more.hidden = section.more === 0;
    setText(more, `and ${section.more} more: narrow the filter, or see the metrics`);
  };

  const showTenants = (tenants) => {
    const list = find("#tenant-names");
    if (!list) return;
    const there = [...list.children].map((option) => option.value);
    if (there.length === tenants.length && there.every((name, at) => name === tenants[at])) return;
    list.replaceChildren(...tenants.map((name) => make("option", { value: name })));
  };

  const show = (status) => {
    const summary = find("#summary");
    setAttribute(summary, "data-level", status.level);
    setText(summary, status.summary);
    setText(find("#uptime"), status.uptime);
    status.figures.forEach(showFigure);
    status.sections.forEach(showSection);
    showTenants(status.tenants);
    state.clock = status.clock;
  };

  // Whether the numbers are live. It is read aloud when it changes its kind, not with each second.

  const showLive = () => {
    const age = performance.now() - state.answered;
    const of = state.clock ? `numbers of ${state.clock} UTC` : "numbers as the page was loaded";
    const kind = state.paused ? "paused" : age > STALE_MS ? "stale" : state.clock ? "on" : "off";
    const text = {
      paused: `Paused, ${of}`,
      stale: `Stale, no answer for ${Math.round(age / 1_000)} s: ${of}`,
      on: `Live, ${of}`,
      off: `Asking, ${of}`,
    }[kind];
    live.setAttribute("aria-live", live.dataset.live === kind ? "off" : "polite");
    live.dataset.live = kind;
    setText(live, text);
  };

  // Asking.

  const address = () => {
    const url = new URL("status.json", document.baseURI);
    if (state.filter) url.searchParams.set("tenant", state.filter);
    return url;
  };

  const later = (wait) => {
    clearTimeout(state.timer);
    state.timer = setTimeout(ask, wait);
  };

  async function ask() {
    if (state.paused || document.hidden) return;
    if (state.asked) state.asked.abort();
    const asked = new AbortController();
    state.asked = asked;
    const cut = setTimeout(() => asked.abort(), ANSWER_MAX_MS);
    let status = null;
    try {
      const answer = await fetch(address(), { signal: asked.signal, cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      status = await answer.json();
    } catch {
      // No answer, or none in time: said below.
    } finally {
      clearTimeout(cut);
    }
    // Somebody asked again meanwhile, with another filter, or paused.
    if (state.asked !== asked) return;
    state.asked = null;
    state.failures = status ? 0 : state.failures + 1;
    later(Math.min(EVERY_MS * 2 ** state.failures, PAUSE_MAX_MS));
    if (status) {
      state.answered = performance.now();
      show(status);
    }
    showLive();
  }

  // Controls.

  const setFilter = (filter) => {
    state.filter = filter.trim();
    find("#all").hidden = state.filter === "";
    const here = new URL(location.href);
    if (state.filter) here.searchParams.set("tenant", state.filter);
    else here.searchParams.delete("tenant");
    history.replaceState(null, "", here);
    setAttribute(find("#json"), "href", address().href);
    later(0);
  };

  const setPaused = (paused) => {
    state.paused = paused;
    setText(pause, paused ? "Resume updates" : "Pause updates");
    if (paused) {
      clearTimeout(state.timer);
      if (state.asked) state.asked.abort();
      state.asked = null;
    } else {
      state.answered = performance.now();
      later(0);
    }
    showLive();
  };

  if (input) {
    let typing = 0;
    input.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => setFilter(input.value), TYPING_MS);
    });
    find("#filter").addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(typing);
      setFilter(input.value);
    });
    find("#all").addEventListener("click", (event) => {
      event.preventDefault();
      input.value = "";
      setFilter("");
      input.focus();
    });
    if (state.filter) setAttribute(find("#json"), "href", address().href);
  }
  pause.hidden = false;
  pause.addEventListener("click", () => setPaused(!state.paused));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || state.paused) return;
    later(0);
  });
  setInterval(showLive, 1_000);
  later(EVERY_MS);
})();
