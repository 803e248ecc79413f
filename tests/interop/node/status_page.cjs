// A status page in headless Chromium, as a person and a checker of accessibility see it.
// Arguments: the browser's program, what to do, address of the page, folder for pictures. The browser gets
// an empty profile below TMPDIR, and only talks to the page.
//   watch: waits until the page shows newer numbers by itself.
//   glance: reads it, and looks at it on a light desk and on a dark phone.
//   inspect: the same in four shapes, and uses every control.
// The answer is what was found; what it must be is in the test that asks.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");

const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// The test's own time limit ends the script; nothing here waits for less than a busy machine needs.
const WAIT_MS = 60_000;
const PHONE = { width: 360, height: 740 };
const DESK = { width: 1280, height: 900 };
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

// A page with note of everything that goes wrong or elsewhere.
async function open(browser, address, options = {}) {
  const context = await browser.newContext({ viewport: DESK, ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const noted = { console: [], failed: [], elsewhere: [], dialogs: [], asked: 0 };
  const origin = new URL(address).origin;
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) noted.console.push(message.text());
  });
  page.on("pageerror", (error) => noted.console.push(String(error)));
  page.on("dialog", (dialog) => {
    noted.dialogs.push(dialog.message());
    dialog.dismiss();
  });
  page.on("requestfailed", (request) => noted.failed.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (response) => {
    if (response.status() >= 400) noted.failed.push(`${response.url()}: ${response.status()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(origin)) noted.elsewhere.push(request.url());
    if (request.url().includes("/status.json")) noted.asked += 1;
  });
  const answer = await page.goto(address, { waitUntil: "load" });
  return { context, page, noted, status: answer.status() };
}

// Every figure and every cell, as they are on the screen.
const read = (page) => page.evaluate(() => {
  const text = (element) => element?.textContent.trim() ?? "";
  const figures = {};
  for (const figure of document.querySelectorAll(".figure")) {
    figures[figure.dataset.id] = { text: text(figure.querySelector(".value")), note: text(figure.querySelector(".note")) };
  }
  const tables = {};
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.querySelectorAll("th")].map(text);
    tables[table.dataset.section] = [...table.querySelectorAll("tbody tr")].map((row) => (
      Object.fromEntries([...row.children].map((cell, at) => [heads[at], text(cell.querySelector(".text"))]))
    ));
  }
  return { title: document.title, summary: text(document.querySelector("#summary")), figures, tables };
});

const tenants = (page) => page.$$eval("table[data-section=tenants] tbody tr", (rows) => (
  rows.map((row) => row.getAttribute("data-id"))
));

// Goes through the page by Tab alone: what gets the focus, and whether that is seen.
async function tabbed(page) {
  const all = await page.evaluate(() => {
    const controls = [...document.querySelectorAll("a[href], button, input, [tabindex='0']")];
    const seen = controls.filter((control) => control.checkVisibility());
    seen.forEach((control, at) => control.setAttribute("data-control", String(at)));
    return seen.map((control) => `${control.tagName.toLowerCase()} ${control.id || control.textContent.trim().slice(0, 30)}`);
  });
  await page.evaluate(() => document.activeElement?.blur());
  const reached = new Set();
  const unseen = [];
  for (let step = 0; step < all.length * 2 + 10; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const control = document.activeElement;
      if (!control || control === document.body) return null;
      const style = getComputedStyle(control);
      const box = control.getBoundingClientRect();
      const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2
        && box.bottom > 0 && box.top < innerHeight;
      return { number: control.getAttribute("data-control"), isSeen };
    });
    if (!at || at.number === null) continue;
    reached.add(Number(at.number));
    if (!at.isSeen) unseen.push(all[Number(at.number)]);
    if (reached.size === all.length) break;
  }
  return { controls: all, missed: all.filter((_, at) => !reached.has(at)), unseen };
}

const overflow = (page) => page.evaluate(() => {
  const root = document.scrollingElement;
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    if (element.closest("thead, .skip")) return false;
    return element.getBoundingClientRect().right > innerWidth + 0.5;
  });
  return { scroll: root.scrollWidth, width: innerWidth, wide: wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120)) };
});

// What a checker finds, contrast among it.
async function checked(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  const contrast = found.passes.find((rule) => rule.id === "color-contrast");
  return {
    violations: found.violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.target.join(" ")).slice(0, 5).join(" | ")}`),
    contrast: contrast ? contrast.nodes.length : 0,
  };
}

async function shapes(browser, address, folder, schemes, screens) {
  const found = {};
  for (const colorScheme of schemes) {
    for (const [name, viewport] of screens) {
      // The checker has to be let past the page's policy to get in at all; the other looks keep to it.
      const shape = { colorScheme, viewport, reducedMotion: "reduce", bypassCSP: true };
      const { context, page, noted } = await open(browser, address, shape);
      await page.screenshot({ path: path.join(folder, `${colorScheme}-${name}.png`), fullPage: name === "desk" });
      found[`${colorScheme}-${name}`] = {
        background: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
        overflow: await overflow(page),
        keys: await tabbed(page),
        noted,
        ...await checked(page),
      };
      await context.close();
    }
  }
  return found;
}

async function watch(browser, address) {
  const { page, noted, status } = await open(browser, address);
  const before = await read(page);
  await page.evaluate(() => { globalThis.isTheSamePage = true; });
  await page.waitForFunction(
    (note) => document.querySelector(".figure[data-id=events_in] .note").textContent !== note,
    before.figures.events_in.note,
  );
  await page.waitForFunction(() => document.querySelector("#live").dataset.live === "on");
  await page.waitForFunction(() => (
    document.querySelector(".figure[data-id=events_in] polyline")?.getAttribute("points").includes(" ")
  ));
  const after = await read(page);
  return { status, noted, before, after, isTheSamePage: await page.evaluate(() => globalThis.isTheSamePage === true) };
}

async function filtered(browser, address) {
  const { page, noted } = await open(browser, address);
  const all = await tenants(page);
  await page.focus("#tenant");
  await page.keyboard.type("fabri");
  await page.waitForFunction(() => document.querySelectorAll("table[data-section=tenants] tbody tr").length === 1);
  const some = await tenants(page);
  const here = page.url();
  const tables = (await read(page)).tables;
  await page.click("#all");
  await page.waitForFunction((count) => (
    document.querySelectorAll("table[data-section=tenants] tbody tr").length === count
  ), all.length);
  const hostile = "\"><img src=x onerror=alert(1)><script>alert(2)</script>";
  const attacked = await open(browser, `${address}?tenant=${encodeURIComponent(hostile)}`);
  await attacked.page.waitForFunction(() => document.querySelector("#live").dataset.live === "on");
  return {
    all, some, here, tables, noted,
    again: await tenants(page),
    hostile: {
      typed: hostile,
      shown: await attacked.page.inputValue("#tenant"),
      images: await attacked.page.locator("img").count(),
      noted: attacked.noted,
    },
  };
}

// Without script the server does it all.
async function plain(browser, address) {
  const { page, noted } = await open(browser, address, { javaScriptEnabled: false });
  const all = await page.locator("table[data-section=tenants] tbody tr").count();
  await page.fill("#tenant", "fabrikam");
  await Promise.all([page.waitForURL("**/?tenant=fabrikam"), page.click("#filter button")]);
  return {
    all, noted,
    some: await page.locator("table[data-section=tenants] tbody tr").count(),
    pause: await page.locator("#pause").isVisible(),
    live: await page.locator("#live").textContent(),
  };
}

// A server that does not answer for a while, on a clock of its own.
async function cut(browser, address) {
  const context = await browser.newContext({ viewport: DESK });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  await page.clock.install();
  const times = [];
  let away = false;
  await page.route("**/status.json*", (route) => {
    if (!away) return route.continue();
    times.push(Date.now());
    return route.abort();
  });
  // The page's clock goes on by a second, and stands while an answer is under way.
  let underWay = 0;
  let quiet = () => {};
  const ended = () => {
    underWay -= 1;
    if (underWay === 0) quiet();
  };
  page.on("request", () => { underWay += 1; });
  page.on("requestfinished", ended);
  page.on("requestfailed", ended);
  // Whoever runs this script limits how long it may take.
  const second = async () => {
    await page.clock.runFor(1_000);
    if (underWay > 0) await new Promise((done) => { quiet = done; });
  };
  await page.goto(address, { waitUntil: "load" });
  const live = () => page.evaluate(() => document.querySelector("#live").dataset.live);
  const until = async (kind) => {
    for (let step = 0; step < 120; step += 1) {
      if (await live() === kind) return true;
      await second();
    }
    return false;
  };
  const on = await until("on");
  away = true;
  const stale = await until("stale");
  const text = await page.textContent("#live");
  // Two minutes of the page's time: with a pause that grows to half a minute that is a handful.
  const before = times.length;
  for (let step = 0; step < 120; step += 1) await second();
  const asked = times.length - before;
  away = false;
  const back = await until("on");
  await page.click("#pause");
  const paused = await live();
  const resume = await page.textContent("#pause");
  await page.click("#pause");
  const resumed = await until("on");
  await context.close();
  return { on, stale, text, asked, back, paused, resume, resumed };
}

const ALL = [["desk", DESK], ["phone", PHONE]];

// The page as it is loaded and once it is live.
async function readLive(browser, address) {
  const { context, page, noted, status } = await open(browser, address);
  await page.waitForFunction(() => document.querySelector("#live").dataset.live === "on");
  const seen = await read(page);
  await context.close();
  return { status, noted, seen };
}

const glance = async (browser, address, folder) => ({
  ...await readLive(browser, address),
  shapes: {
    ...await shapes(browser, address, folder, ["light"], ALL.slice(0, 1)),
    ...await shapes(browser, address, folder, ["dark"], ALL.slice(1)),
  },
});

const inspect = async (browser, address, folder) => ({
  ...await readLive(browser, address),
  filter: await filtered(browser, address),
  plain: await plain(browser, address),
  cut: await cut(browser, address),
  shapes: await shapes(browser, address, folder, ["light", "dark"], ALL),
});

async function main([executablePath, what, address, folder]) {
  fs.mkdirSync(folder, { recursive: true });
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });
  try {
    const found = await { watch, glance, inspect }[what](browser, address, folder);
    process.stdout.write(`${JSON.stringify(found)}\n`);
  } finally {
    await browser.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.stack ?? error}\n`);
  process.exitCode = 1;
});
