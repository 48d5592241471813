// The page: filters, cards, tables and charts over the sums of sums.js, as the page declares them.
// Text from the data goes into the document as text only, never as markup.
// Every figure shown carries data-figure and data-value: exact, in units, parts of one or currency.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** A new element: `make("td", {class: "number"}, "text", child …)`. */
function make(tag, attributes = {}, ...children) {
  const isDrawn = ["svg", "path", "circle", "line", "text", "rect"].includes(tag);
  const element = isDrawn
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false && value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

async function unpack(text) {
  await pause();
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return opened(new Uint8Array(await new Response(stream).arrayBuffer()));
}

const { description: data, column } = await unpack($("#data").textContent);
const cube = data.cube && (await Cube.read(data, column));
const page = data.page ?? { measures: [], dimensions: [], blocks: [] };
const { byName, value } = measuresOf(page);
const dimensionOf = Object.fromEntries(page.dimensions.map((each) => [each.name, each]));
const form = $("#choices");
const narrow = matchMedia("(max-width: 640px)");

// ---- Numbers, dates and names as text. The page is in English, so its numbers are too. ---------------

const locale = navigator.languages.find((each) => each.startsWith("en")) ?? "en-GB";
const formatsOf = {};
/** How numbers become text, with amounts in a currency. Where that is not known, they have no sign. */
const formats = (code) => (formatsOf[code] ??= newFormats(code));
function newFormats(code) {
  // Only when a figure wants it: to make one takes a phone 15 ms.
  const number = (options) => {
    let format;
    return (amount) => (amount === null ? "–" : (format ??= new Intl.NumberFormat(locale, options)).format(amount));
  };
  // What is no code of a currency would be an error.
  const currency = /^[a-z]{3}$/i.test(code) ? { style: "currency", currency: code } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  const [exact, round] = [number(currency), number({ ...currency, minimumFractionDigits: 0, maximumFractionDigits: 0 })];
  const cents = (amount) => {
    const digits = String(Math.abs(Math.round(amount))).padStart(3, "0");
    return `${amount < 0 ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
  };
  const short = number({ ...currency, notation: "compact", maximumSignificantDigits: 3 });
  return {
    money: {
      show: (amount) => (amount === null ? "–" : (Math.abs(amount) < 1e5 ? exact : round)(amount / 100)),
      brief: (amount) => short(amount / 100),
      exact: cents,
    },
    amount: {
      show: (amount) => (amount === null ? "–" : round(amount / 100)),
      brief: (amount) => short(amount / 100),
      exact: cents,
    },
    count: {
      show: number({ maximumFractionDigits: 0 }),
      brief: number({ notation: "compact", maximumSignificantDigits: 3 }),
      exact: String,
    },
    // Kilobytes and seconds.
    volume: {
      show: (amount) => (amount === null ? "–" : `${kinds.decimal.show(amount / 1e6)} GB`),
      brief: (amount) => `${kinds.count.brief(amount / 1e6)} GB`,
      exact: String,
      unit: "KB",
    },
    duration: {
      show: (amount) => (amount === null ? "–" : `${kinds.count.show(amount / 3600)} h`),
      brief: (amount) => `${kinds.count.brief(amount / 3600)} h`,
      exact: String,
      unit: "seconds",
    },
    decimal: { show: number({ minimumFractionDigits: 1, maximumFractionDigits: 1 }), exact: String },
    rate: {
      show: number({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }),
      brief: number({ style: "percent", maximumFractionDigits: 1 }),
      exact: (rate) => rate.toFixed(6),
    },
  };
}
let kinds = formats(null);
const figure = (name, kind, amount) => ({
  "data-figure": name,
  "data-value": amount === null ? "" : kinds[kind].exact(amount),
});
/** A function that returns a format. As those of numbers, it is made when it is wanted, and once. */
const dates = (options) => {
  let format;
  return () => (format ??= new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options }));
};
// Where rows are of months, only months can be told.
const dateText = dates(page.unit === "month" ? { month: "short", year: "numeric" } : { dateStyle: "medium" });
const rangeOf = (from, to) =>
  from === to ? dateText().format(from * 864e5) : dateText().formatRange(from * 864e5, to * 864e5);
const weekday = dates({ weekday: "long" });
const shortMonth = dates({ month: "short", year: "2-digit" });
const shortDay = dates({ day: "numeric", month: "short" });
const collator = new Intl.Collator(locale);
const countries = new Intl.DisplayNames(locale, { type: "region", fallback: "code" });
const capital = (text) => text[0].toUpperCase() + text.slice(1).replaceAll("_", " ");

/** The name of a path of a dimension: of its last part. */
function nameOf(dimension, path) {
  const key = path.at(-1);
  const { codes, label, levelNames } = dimensionOf[dimension];
  if (key === null || key === undefined) return `${capital(label.split(" or ")[path.length - 1] ?? label)} not known`;
  const names = data.names[`${dimension}.${levelNames[path.length - 1]}`];
  if (names) return names[key] ?? String(key);
  if (codes[path.length - 1] === "country" && /^[A-Z]{2}$/.test(key)) return countries.of(key);
  return path.length === 1 && /^[a-z_]+$/.test(key) ? capital(key) : String(key);
}

/** A change as an element. `points`: of rates. Small or neutral changes have no colour. */
function change(now, before, measure) {
  if (now === null || before === null) return make("span", {}, "–");
  const isRate = measure.kind === "rate";
  if (!isRate && !before) return make("span", {}, "–");
  const difference = isRate ? now - before : (now - before) / Math.abs(before);
  const size = Math.abs(difference);
  const text = isRate ? `${kinds.decimal.show(size * 100)} points` : kinds.rate.show(size);
  const isFlat = size < 0.0005;
  const isNoted = size >= (isRate ? 0.005 : 0.01) && measure.rising !== "neutral";
  const isGood = difference > 0 === (measure.rising === "good");
  const arrow = isFlat ? "=" : difference > 0 ? "▲" : "▼";
  return make("b", { class: isNoted ? (isGood ? "good" : "bad") : undefined }, `${arrow} ${text}`);
}

// ---- Tooltip: one element for the whole page, for pointer and keyboard -------------------------------

const tip = $("#tip");
function showTip(anchor, lines) {
  tip.replaceChildren(...lines.map(([name, text]) => make("div", {}, make("span", {}, name), make("b", {}, text))));
  tip.hidden = false;
  const { left, top, width } = anchor;
  const x = Math.min(Math.max(8, left + width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const y = top - tip.offsetHeight - 10;
  tip.style.translate = `${x}px ${y < 4 ? top + 24 : y}px`;
}
const hideTip = () => (tip.hidden = true);

// ---- Tables ----------------------------------------------------------------------------------------

// Where a text gets an apostrophe, so that no spreadsheet runs it: as in the extracts, which say why.
const BEGINS = /^ *['=+\-@＝＋－＠\t\r\n]/;
const INSIDE = /([;\t\r\n])(?= *[\"'=+\-@＝＋－＠])/g;

/** Saves a table as CSV. */
function save(name, columns, rows) {
  const cell = (content) => {
    const isText = typeof content === "string";
    const text = isText ? (BEGINS.test(content) ? "'" : "") + content.replace(INSIDE, "$1'") : String(content ?? "");
    return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const exact = (row, { name: key, kind }) =>
    kind === "text" || row[key] === null ? row[key] : { toString: () => kinds[kind].exact(row[key]) };
  const head = ({ label, kind }) => (kinds[kind]?.unit ? `${label}, ${kinds[kind].unit}` : label);
  const lines = [columns.map(head), ...rows.map((row) => columns.map((each) => exact(row, each)))];
  // With this mark, spreadsheets read the file as UTF-8.
  const text = "\ufeff" + lines.map((line) => line.map(cell).join(",")).join("\r\n");
  const link = make("a", { download: `${name}.csv`, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

/**
 * A sortable table in a panel. Columns: `name`, `label`, `kind`, optionally `show(row)`, `has_bar`,
 * `is_wide` (left out on phones). Rows have a `key`. `currency`: the column with the currency of a
 * row's amounts, if it is not the chosen one. Returns `draw(rows)`.
 */
function sortable(panel, id, columns, { sort, limit, currency }) {
  const table = $("table", panel);
  let [by, descending, rows] = [sort, true, []];
  const first = () => (narrow.matches ? Math.min(limit, 6) : limit);
  let shown = first();
  const more = make("button", { type: "button", class: "more", onclick: () => ((shown += 20), draw()) });
  const file = make("button", { type: "button", class: "more", onclick: () => save(id, columns, rows) }, "Save as CSV");
  table.parentElement.after(make("p", { class: "actions" }, more, file));
  const classes = ({ kind, is_wide }) => `${kind === "text" ? "words" : "number"}${is_wide ? " wide" : ""}`;
  const compare = (a, b) =>
    typeof (a ?? b) === "string" ? collator.compare(a ?? "", b ?? "") : (a ?? -Infinity) - (b ?? -Infinity);
  function sortBy(name, kind) {
    descending = by === name ? !descending : kind !== "text";
    by = name;
    draw();
  }
  function cell(each, row, largest) {
    const { name, kind } = each;
    const attributes = { class: classes(each) };
    if (kind !== "text") Object.assign(attributes, figure(`${id}-${name}`, kind, row[name]));
    const { show } = (currency ? formats(row[currency]) : kinds)[kind] ?? {};
    const content = each.show ? each.show(row) : show ? show(row[name]) : (row[name] ?? "–");
    const element = make("td", attributes, content);
    if (each.has_bar) {
      const fill = make("i");
      fill.style.setProperty("--share", `${Math.max(0, (100 * row[name]) / largest || 0)}%`);
      element.append(make("span", { class: "bar", "aria-hidden": "true" }, fill));
    }
    return element;
  }
  function draw() {
    rows.sort((a, b) => (descending ? compare(b[by], a[by]) : compare(a[by], b[by])));
    const bar = columns.find((each) => each.has_bar);
    const largest = bar && rows.reduce((top, row) => Math.max(top, row[bar.name]), 0);
    const heads = columns.map((each) => {
      const isSorted = by === each.name;
      const order = isSorted ? { "aria-sort": descending ? "descending" : "ascending" } : {};
      const button = { type: "button", "data-sort": each.name, onclick: () => sortBy(each.name, each.kind) };
      const arrow = isSorted ? (descending ? "\u00a0↓" : "\u00a0↑") : "";
      return make("th", { scope: "col", class: classes(each), ...order }, make("button", button, each.label + arrow));
    });
    const body = rows.slice(0, shown).map((row) =>
      make("tr", { "data-key": row.key }, ...columns.map((each) => cell(each, row, largest))));
    if (!body.length) body.push(make("tr", {}, make("td", { colspan: columns.length }, "Nothing to show.")));
    const focused = table.contains(document.activeElement) && document.activeElement.dataset.sort;
    $("thead", table).replaceChildren(make("tr", {}, ...heads));
    $("tbody", table).replaceChildren(...body);
    if (focused) $(`[data-sort="${focused}"]`, table).focus();
    more.hidden = rows.length <= shown;
    more.textContent = `Show more (${kinds.count.show(rows.length - shown)} left)`;
  }
  return (newRows) => ((rows = newRows), (shown = first()), draw());
}

// ---- Blocks: each returns a function that draws it anew for a view ------------------------------------

/** A measure in one side of a view. Those that settle late come from sums without their young days. */
function of(side, name, group = (sums) => sums.all, n = 0) {
  if (!side) return null;
  const sums = side.settled[byName[name].settles] ?? side.sums;
  return value(name, sums, group(sums), n);
}

/** A measure of what is compared, and of what with. Both are without the day that is not over. */
const pair = ({ compared, before }, name, group) => [of(compared, name, group), of(before, name, group)];

/** A small line of a measure's course over whole pieces of the period. Tables have its numbers. */
function spark(view, name) {
  const values = courses(view, name).filter(({ isWhole, now }) => isWhole && now !== null).map(({ now }) => now);
  if (values.length < 3) return "";
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const points = values.map((each, n) => `${(n / (values.length - 1)) * 96 + 2},${26 - ((each - low) / (high - low || 1)) * 22}`);
  const svg = make("svg", { viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(make("path", { class: "now", d: `M${points.join("L")}`, "vector-effect": "non-scaling-stroke" }));
  return svg;
}

/** What a measure should be, and how far it is from there; nothing where that is not known. */
function goal(measure, shown, compared, before) {
  const isRate = measure.kind === "rate";
  const now = isRate ? shown : compared;
  if (!measure.target || now === null || before === null) return "";
  const wanted = isRate ? measure.target : before * measure.target;
  const isReached = measure.rising === "bad" ? now <= wanted : now >= wanted;
  const distance = isRate ? `${kinds.decimal.show(Math.abs(now - wanted) * 100)} points` : kinds.rate.show(Math.abs(now / wanted - 1));
  const { show, brief = show } = kinds[measure.kind];
  const told = isReached ? "reached" : `missed by ${distance}`;
  return make("p", { class: "change" }, `Target ${(isRate ? show : brief)(wanted)} ${told}`);
}

function cards(panel, block) {
  return (view) =>
    panel.replaceChildren(
      ...block.measures.map((name) => {
        const measure = byName[name];
        const now = of(view.now, name);
        const [compared, before] = pair(view, name);
        const line = make("p", { class: "change" });
        const young = measure.settles && view.now.young(measure.settles);
        if (now === null && !young) line.append("not counted for this selection");
        else if (before !== null && compared !== null) {
          const { show, brief = show } = kinds[measure.kind];
          const text = (amount) => (measure.kind === "money" && before >= 1e7 ? brief : show)(amount);
          const earlier = make("span", figure(`${name}-before`, measure.kind, before), text(before));
          // In a short period, what is left out can make a fall of a rise.
          const own = (view.unit === "day" || page.unit === "month") && compared !== now ? `, ${text(compared)}` : "";
          line.append(change(compared, before, measure), `${own} vs. `, earlier);
        }
        const attributes = { class: "value", ...figure(name, measure.kind, now) };
        const card = make("article", { class: "card" }, make("h3", {}, measure.label));
        card.append(make("p", attributes, kinds[measure.kind].show(now)), line, goal(measure, now, compared, before));
        if (young) {
          const until = view.now.to - young;
          const text = until < view.now.from ? "too young to say" : `until ${shortDay().format(until * 864e5)}`;
          $("h3", card).append(" ", make("small", {}, text));
        }
        card.append(spark(view, name));
        return card;
      }),
    );
}

/** The rows of a trend: the value of each piece, and of the piece that it is compared with. */
function courses(view, name) {
  const at = (side, from, to) => {
    if (!side || from < side.from || to > side.to) return null;
    const sums = cube.zeros(1);
    for (const key in sums) for (let day = from; day <= to; day++) sums[key][0] += side.sums.day[key][day - side.from];
    return value(name, side.sums, sums);
  };
  const newest = view.last - byName[name].settles;
  return view.pieces.map((piece) => {
    const [start, end] = view.earlier(piece.from, piece.to);
    // The day of the last load is not over yet.
    const isWhole = piece.isWhole && piece.to < view.last && piece.to <= newest;
    const isOver = piece.to < view.last;
    return { ...piece, isWhole, isOver, now: at(view.now, piece.from, piece.to), before: at(view.reach, start, end) };
  });
}

/** Round values from 0, or below it, to the largest. */
function ticks(low, high) {
  const rough = (high - low || 1) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const [first, count] = [Math.floor(low / step), Math.ceil(high / step) - Math.floor(low / step)];
  return Array.from({ length: count + 1 }, (_, n) => (first + n) * step);
}

function trend(panel, block) {
  const holder = $(".chart", panel);
  const measure = byName[block.measure];
  let rows = [];
  function draw() {
    const [width, height, left, bottom] = [Math.max(240, holder.clientWidth), block.height, 52, 20];
    const values = rows.flatMap((row) => [row.now, row.before]).filter((each) => each !== null);
    const marks = ticks(Math.min(0, ...values), Math.max(0, ...values) || (Math.min(0, ...values) ? 0 : 1));
    const x = (n) => left + 8 + (rows.length > 1 ? (n / (rows.length - 1)) * (width - left - 24) : (width - left) / 2);
    const y = (amount) => height - bottom - ((amount - marks[0]) / (marks.at(-1) - marks[0])) * (height - bottom - 10);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0 });
    svg.setAttribute("aria-label", `${measure.label}, ${rows.length} points. Arrow keys read them.`);
    for (const mark of marks) {
      svg.append(make("line", { class: "grid", x1: left, x2: width, y1: y(mark), y2: y(mark) }));
      const text = (kinds[measure.kind].brief ?? kinds[measure.kind].show)(mark);
      svg.append(make("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, text));
    }
    const every = Math.ceil(rows.length / Math.max(2, Math.floor((width - left) / 64)));
    // From the newest back, since that one matters most.
    for (let n = rows.length - 1; n >= 0; n -= every) {
      const label = (rows[n].unit === "month" ? shortMonth : shortDay)().format(rows[n].from * 864e5);
      const anchor = rows.length > 1 && n === rows.length - 1 ? "end" : "middle";
      svg.append(make("text", { x: anchor === "end" ? width : x(n), y: height - 4, "text-anchor": anchor }, label));
    }
    for (const side of ["before", "now"]) {
      // A part of a month must not look like a fall, so it hangs on a dashed line and is a ring.
      for (let n = 1; n < rows.length; n++) {
        if (rows[n - 1][side] === null || rows[n][side] === null) continue;
        const isPart = !rows[n - 1].isWhole || !rows[n].isWhole;
        const d = `M${x(n - 1)},${y(rows[n - 1][side])}L${x(n)},${y(rows[n][side])}`;
        svg.append(make("path", { class: isPart ? `${side} cut` : side, d }));
      }
      rows.forEach((row, n) => {
        if (row[side] === null || (row.isWhole && rows.length > 1)) return;
        svg.append(make("circle", { class: side, cx: x(n), cy: y(row[side]), r: 3 }));
      });
    }
    const cursor = make("line", { class: "cursor", y1: 4, y2: height - bottom, visibility: "hidden" });
    svg.append(cursor);
    let at = rows.length - 1;
    const point = (n) => {
      at = Math.max(0, Math.min(rows.length - 1, n));
      const row = rows[at];
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(at));
      cursor.setAttribute("visibility", "visible");
      const box = svg.getBoundingClientRect();
      const { show } = kinds[measure.kind];
      showTip({ left: box.left + x(at), top: box.top, width: 0 }, [
        [rangeOf(row.from, row.to), row.isWhole ? "" : "not complete"],
        [measure.label, show(row.now)],
        ["Compared with", show(row.before)],
        ...(row.isOver ? [["Change", change(row.now, row.before, measure).textContent]] : []),
      ]);
    };
    const leave = () => (hideTip(), cursor.setAttribute("visibility", "hidden"));
    svg.addEventListener("pointermove", (event) => {
      const step = (x(rows.length - 1) - x(0)) / Math.max(1, rows.length - 1) || 1;
      point(Math.round((event.clientX - svg.getBoundingClientRect().left - x(0)) / step));
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("focus", () => point(at));
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) (event.preventDefault(), point(at + step));
      if (event.key === "Escape") leave();
    });
    holder.replaceChildren(svg);
  }
  const key = make("p", { class: "key" }, ...[measure.label, "Compared with"].map((text) => make("span", {}, make("i"), text)));
  holder.before(key);
  let width = 0;
  new ResizeObserver(() => {
    if (rows.length && holder.clientWidth !== width) draw();
    width = holder.clientWidth;
  }).observe(holder);
  const columns = [
    { name: "when", label: "When", kind: "text" },
    { name: "now", label: measure.label, kind: measure.kind },
    { name: "before", label: "Compared with", kind: measure.kind },
  ];
  const table = sortable(panel, `trend-${measure.name}`, columns, { sort: "key", limit: 100 });
  return (view) => {
    rows = courses(view, measure.name).map((row) => ({ ...row, unit: view.unit, key: isoOf(row.from) }));
    $(".unit", panel).textContent = `by ${view.unit}`;
    draw();
    table(rows.map((row) => ({ ...row, when: rangeOf(row.from, row.to) })));
  };
}

function ranking(panel, block) {
  const dimension = dimensionOf[block.dimension];
  const [main, ...others] = block.measures;
  const choose = (path) => {
    setChosen(dimension.name, path ? [JSON.stringify(path)] : []);
    changed().then(() => $(".back", panel)?.focus());
  };
  const link = (row) =>
    dimension.filter
      ? make("button", { type: "button", class: "link", onclick: () => choose(row.path) }, row.name)
      : row.name;
  const columns = [
    { name: "name", label: dimension.label, kind: "text", show: link },
    { name: main, label: byName[main].label, kind: byName[main].kind, has_bar: true },
    { name: "change", label: "Change", kind: "rate", show: (row) => change(row.compared, row.before, { ...byName[main], kind: "" }) },
    ...others.map((name, n) => ({ name, label: byName[name].label, kind: byName[name].kind, is_wide: n > 0 })),
  ];
  const draw = sortable(panel, dimension.name, columns, { sort: main, limit: block.limit });
  panel.hidden = dimension.levels === 1 && data.rung.without.includes(dimension.name);
  return (view) => {
    const chosen = view.chosen[dimension.name] ?? [];
    const depth = block.is_flat || chosen.length ? dimension.levels : 1;
    const codes = new Map();
    cube.paths[dimension.name].forEach((full, code) => {
      if (chosen.length && !chosen.some((prefix) => startsWith(full, prefix))) return;
      const path = full.slice(0, depth);
      const key = JSON.stringify(path);
      if (!codes.has(key)) codes.set(key, { key, path, codes: [] });
      codes.get(key).codes.push(code);
    });
    /** The sums of several codes as one group. */
    const grouped = (sums, some) => {
      const total = cube.zeros(1);
      for (const key in total) for (const code of some) total[key][0] += sums.parts[dimension.name][key][code];
      return total;
    };
    const rows = [...codes.values()].map(({ key, path, codes: some }) => {
      const measured = Object.fromEntries(
        block.measures.map((name) => [name, of(view.now, name, (sums) => grouped(sums, some))]));
      const [compared, before] = pair(view, main, (sums) => grouped(sums, some));
      const difference = before ? (compared - before) / Math.abs(before) : null;
      return { key, path, name: nameOf(dimension.name, path), compared, before, change: difference, ...measured };
    });
    // A part without the first measure may have others: a plan with complaints and no sales.
    draw(rows.filter((row) => row.before || block.measures.some((name) => row[name])));
    const back = { type: "button", class: "link back", onclick: () => choose(null) };
    $(".back", panel)?.remove();
    if (chosen.length && dimension.filter) $("h3", panel).append(make("button", back, "← All"));
  };
}

function hours(panel, block) {
  const table = $("table", panel);
  return (view) => {
    const { hours: sums } = view.now.sums;
    panel.hidden = !sums;
    if (!sums) return;
    const monday = 4; // 1970-01-01 was a Thursday
    const weekdays = Array.from({ length: 7 }, (_, n) => weekday().format((monday + n) * 864e5));
    const names = block.by === "weekday" ? weekdays : cube.paths[block.by].map((path) => nameOf(block.by, path));
    const most = Math.max(1, ...sums[block.by]);
    // Each has its text, for those who hear the page. There is room to show a few.
    const every = narrow.matches ? 6 : 3;
    const heads = Array.from({ length: 24 }, (_, hour) =>
      make("th", { scope: "col" }, make("span", { class: hour % every ? "hidden" : null }, `${hour}:00`)));
    const corner = make("span", { class: "hidden" }, block.by === "weekday" ? "Weekday" : dimensionOf[block.by].label);
    $("thead", table).replaceChildren(make("tr", {}, make("th", { scope: "col" }, corner), ...heads));
    $("tbody", table).replaceChildren(
      ...names.map((name, n) => {
        const cells = heads.map((_, hour) => {
          const count = sums[block.by][n * 24 + hour];
          const cell = make("td", { ...figure("hours-events", "count", count), "data-hour": hour });
          cell.append(make("span", { class: "hidden" }, kinds.count.show(count)));
          cell.style.setProperty("--share", `${Math.round((100 * count) / most)}%`);
          const lines = [[`${name}, ${hour}:00 to ${hour + 1}:00`, kinds.count.show(count)]];
          cell.addEventListener("pointerenter", () => showTip(cell.getBoundingClientRect(), lines));
          cell.addEventListener("pointerleave", hideTip);
          return cell;
        });
        return make("tr", { "data-key": name }, make("th", { scope: "row" }, name), ...cells);
      }),
    );
  };
}

function steps(panel, block) {
  const columns = [
    { name: "label", label: "Step", kind: "text" },
    { name: "amount", label: "Amount", kind: byName[block.measures[0]].kind, has_bar: true },
    { name: "change", label: "Change", kind: "rate", show: (row) => change(row.compared, row.before, row.measure) },
  ];
  const draw = sortable(panel, "steps", columns, { sort: null, limit: 20 });
  return (view) =>
    draw(
      block.measures.map((name) => {
        const [measure, [compared, before]] = [byName[name], pair(view, name)];
        const difference = before ? (compared - before) / Math.abs(before) : null;
        return { key: name, measure, label: measure.label, amount: of(view.now, name), compared, before, change: difference };
      }),
    );
}

function listing(panel, block) {
  const columns = data.listings[block.name];
  const names = Object.keys(columns);
  const all = (columns[names[0]] ?? []).map((_, n) => Object.fromEntries(names.map((name) => [name, columns[name][n]])));
  const draw = sortable(panel, block.name, block.columns, block);
  const options = block.choice ? [...new Set(all.map((row) => row[block.choice]))] : [];
  const chosen = make("small");
  if (block.choice) $("h3", panel).append(" ", chosen);
  return function show(view) {
    // The address may name what the listing does not have.
    const only = options.find((option) => String(option) === limits[block.name]);
    const rows = all.filter((row) =>
      Object.entries(block.follows).every(([dimension, parts]) => {
        const paths = view.chosen[dimension] ?? [];
        const path = parts.map((part) => row[part]);
        return !paths.length || paths.some((prefix) => startsWith(path, prefix));
      }));
    chosen.textContent = only === undefined ? "" : capital(String(only));
    const buttons = options.map((option) => {
      const toggle = () => {
        limits[block.name] = only === option ? undefined : String(option);
        writeAddress();
        show(view);
        $(`[data-choice="${option}"]`, panel).focus();
      };
      const pressed = String(only === option);
      const attributes = { type: "button", "aria-pressed": pressed, "data-choice": option, onclick: toggle };
      return make("button", attributes, capital(String(option)));
    });
    $(".choices", panel)?.replaceChildren(...buttons);
    draw(rows.filter((row) => only === undefined || row[block.choice] === only));
  };
}

// ---- Filters ---------------------------------------------------------------------------------------

const filters = page.dimensions.filter((each) => each.filter);
/** What listings are limited to, as text, by the name of the listing. */
const limits = {};
const boxes = (name) => $$(`[name="${name}"]`, form);
const chosenOf = (name) => boxes(name).filter((box) => box.checked).map((box) => JSON.parse(box.value));
/** Chooses these paths, as JSON; what the page does not know stays unchosen. */
function setChosen(name, paths) {
  const wanted = new Set(paths);
  boxes(name).forEach((box) => (box.checked = wanted.has(box.value)));
  if (dimensionOf[name].single && !chosenOf(name).length && boxes(name).length) boxes(name)[0].checked = true;
}

/** Fills a filter with the parts of its dimension: boxes to tick, or one of them for a currency. */
function fill({ name, levels, single }) {
  const paths = new Map();
  for (const full of cube.paths[name])
    for (let depth = 1; depth <= levels; depth++)
      if (depth <= full.length) paths.set(JSON.stringify(full.slice(0, depth)), full.slice(0, depth));
  const label = (path) => path.map((_, n) => nameOf(name, path.slice(0, n + 1))).join(" › ");
  const labels = new Map([...paths.values()].map((path) => [path, label(path)]));
  const sorted = [...labels.keys()].sort((a, b) => collator.compare(labels.get(a), labels.get(b)));
  if (single) {
    // The most frequent first, because the first is chosen where the reader has chosen none.
    const often = (path) => data.cube.often[name][cube.paths[name].findIndex((each) => each[0] === path[0])];
    sorted.sort((a, b) => often(b) - often(a));
  }
  $(`[data-filter="${name}"] fieldset`).append(
    ...sorted.map((path) => {
      const box = make("input", { type: single ? "radio" : "checkbox", name, value: JSON.stringify(path) });
      return make("label", { class: `depth-${path.length}` }, box, nameOf(name, path));
    }),
  );
}

/** The first and last day of the named period, of those that the page has. */
function period() {
  const [first, last] = [cube.first, dayOf(data.last)];
  const name = form.elements.period.value;
  const named = {
    today: [last, last],
    yesterday: [last - 1, last - 1],
    year: [monthStart(Math.floor(monthOf(last) / 12) * 12), last],
    all: [first, last],
  };
  // From a Monday or the first of a month, so that only the newest piece is not whole.
  const begins = {
    d: (count) => last - count + 1,
    w: (count) => last - ((last + 3) % 7) - 7 * (count - 1),
    m: (count) => monthStart(monthOf(last) - count + 1),
  };
  const [, count, unit] = /^(\d+)([dwm])$/.exec(name) ?? [];
  if (unit) named[name] = [begins[unit](Number(count)), last];
  // A browser lets a reader type any days, and a new business has none before its first.
  const own = (input) => Math.min(last, dayOf(input.value || data.last));
  const found = named[name] ?? [form.elements.from, form.elements.to].map(own);
  // The row of a month is of its first day.
  if (page.unit === "month") found[0] = monthStart(monthOf(found[0]));
  return found.map((day) => Math.max(first, day));
}

function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  form.elements.period.value = address.get("period") ?? page.period;
  if (!form.elements.period.value) form.elements.period.value = page.period;
  form.elements.compare.value = address.get("compare") ?? page.compare;
  if (!form.elements.compare.value) form.elements.compare.value = page.compare;
  for (const [name, day] of [["from", data.first], ["to", data.last]]) form.elements[name].value = address.get(name) ?? day;
  for (const { name } of filters) setChosen(name, address.getAll(name));
  for (const { type, name, choice } of page.blocks) if (type === "listing" && choice) limits[name] = address.get(`only-${name}`) ?? undefined;
}
function writeAddress() {
  const isOwn = form.elements.period.value === "custom";
  const entries = [...new FormData(form)].filter(([name]) => isOwn || (name !== "from" && name !== "to"));
  for (const [name, only] of Object.entries(limits)) if (only !== undefined) entries.push([`only-${name}`, only]);
  history.replaceState(null, "", `#${new URLSearchParams(entries)}`);
}

// ---- All together ----------------------------------------------------------------------------------

/**
 * The sums of a range, those without the youngest days for each measure that settles late, and as
 * `compared` those up to the last day that is over.
 */
async function side(from, to, over, chosen, youngest) {
  // As many days are left out of both sides of a comparison.
  const young = (days) => Math.max(0, youngest + days);
  const late = page.measures.map(({ settles }) => settles).filter((days) => days && young(days));
  const found = await cube.sum(from, [to, over, ...late.map((days) => to - young(days))], chosen);
  const settled = Object.fromEntries(late.map((days) => [days, found[to - young(days)]]));
  return { from, to, young, settled, sums: found[to], compared: { settled, sums: found[over] } };
}

/** How long ago that is, in words. */
function age(at) {
  const minutes = (at - Date.now()) / 6e4;
  const [unit, size] = [["day", 1440], ["hour", 60], ["minute", 1]].find(([, each]) => -minutes >= each) ?? ["minute", 1];
  return new Intl.RelativeTimeFormat(locale, { numeric: "auto" }).format(Math.ceil(minutes / size) || 0, unit);
}

const drawers = [];
let newest = 0;
/** The page is as the reader chose. From now on, everything can be seen. */
function drawn() {
  document.body.dataset.drawn = Number(document.body.dataset.drawn ?? 0) + 1;
  document.documentElement.className = "";
}
/** Draws everything, unless the reader chooses something else meanwhile. */
async function draw() {
  const own = ++newest;
  const [from, to] = period();
  for (const label of $$(".custom", form)) label.hidden = form.elements.period.value !== "custom";
  const isPeriod = from <= to;
  $("#main").classList.toggle("nothing", !isPeriod);
  if (!isPeriod) {
    $("#span").textContent = "Choose a first and a last day, the first not after the last.";
    drawn();
    return;
  }
  const chosen = Object.fromEntries(filters.map(({ name }) => [name, chosenOf(name)]));
  kinds = formats(page.currency && (chosen[page.currency]?.[0] ?? cube.paths[page.currency][0])[0]);
  const last = dayOf(data.last);
  const earlier = comparison(from, to, form.elements.compare.value, page.unit);
  const [start, end] = earlier(from, to);
  const youngest = to - last;
  // The last day is not over, so it is not compared with a whole one.
  const over = from < last ? Math.min(to, last - 1) : to;
  const endOver = earlier(from, over)[1];
  const now = await side(from, to, over, chosen, youngest);
  // The page may reach back over only part of the earlier days: charts show that part, figures none.
  const reach = end >= cube.first ? await side(Math.max(start, cube.first), end, endOver, chosen, youngest) : null;
  if (own !== newest) return;
  const before = start >= cube.first && from < last ? reach.compared : null;
  const view = { now, compared: now.compared, before, reach, earlier, chosen, last, ...cut(from, to, page.unit) };
  const told = filters
    .filter(({ name, single }) => chosen[name].length && !(single && cube.paths[name].length === 1))
    .map(({ name, label }) => `${label}: ${chosen[name].map((path) => nameOf(name, path)).join(", ")}`);
  $("#span").replaceChildren(
    make("b", {}, [rangeOf(from, to), ...told].join(" · ")),
    before ? ` compared with ${rangeOf(start, endOver)}` : from < last ? " (the data do not reach back to the days to compare with)" : "",
    before && page.unit === "day" && form.elements.compare.value === "before" && end < from - 1 ? ", whole weeks before, so that weekdays match" : "",
    to < last ? "." : from < last ? `. ${rangeOf(last, last)} is not over, so changes leave it out.` : `. This ${page.unit} is not over, so it is not compared.`,
  );
  for (const { name, label } of filters) {
    const names = chosen[name].map((path) => nameOf(name, path));
    $(`[data-filter="${name}"] summary b`).textContent = names.length ? names.join(", ") : "All";
  }
  $("#empty").hidden = !now.sums.isEmpty;
  for (const each of drawers) {
    each(view);
    await pause();
    if (own !== newest) return;
  }
  drawn();
}
function changed() {
  writeAddress();
  return draw();
}

// As everywhere in the page and in what its server says of the loads.
const moment = dates({ dateStyle: "medium", timeStyle: "short" });
for (const [id, at] of [["as-of", data.asOf], ["published", data.publishedAt]])
  $(`#${id}`).textContent = at ? `${moment().format(new Date(at))} UTC (${age(new Date(at))})` : "–";
$("#version").textContent = data.version ?? "–";
if (!cube) {
  $("#message").textContent = "Production has no rows for this page yet. Load the sources and publish, then build it again.";
  document.body.dataset.drawn = 1;
} else {
  for (const each of filters) {
    fill(each);
    await pause();
  }
  // An insight is as it was written.
  const makers = { cards, trend, ranking, hours, steps, listing, insight: () => () => {} };
  for (const [n, block] of page.blocks.entries()) {
    drawers.push(makers[block.type]($(`#block-${n}`), block));
    await pause();
  }
  for (const name of ["from", "to"]) Object.assign(form.elements[name], { min: data.first, max: data.last });
  const remarks = Object.entries(data.remarks).filter(([, count]) => count);
  const told = remarks.map(([says, count]) => `${says}: ${kinds.count.show(count)}.`);
  const large = data.isTooLarge ? ["It is larger than a page should be, so it opens slowly."] : [];
  $("#detail").textContent = [data.rung.says, ...large, ...told].join(" ");
  readAddress();
  const fold = () => {
    $("#filters").open = !narrow.matches;
    $$("main > .part").forEach((each, n) => (each.open = n === 0 || !(narrow.matches || each.matches(".folded, .definitions"))));
  };
  fold();
  narrow.addEventListener("change", fold);
  form.addEventListener("change", changed);
  form.addEventListener("reset", (event) => (event.preventDefault(), history.replaceState(null, "", "#"), readAddress(), changed()));
  form.addEventListener("submit", (event) => event.preventDefault());
  const close = (target) => $$(".filter[open]").forEach((each) => each.contains(target) || (each.open = false));
  document.addEventListener("click", (event) => close(event.target));
  document.addEventListener("keydown", (event) => event.key === "Escape" && close(null));
  window.addEventListener("hashchange", () => (readAddress(), changed()));
  // Paper shows what was folded.
  let folded = [];
  window.addEventListener("beforeprint", () => (folded = $$("main > .part:not([open])")).forEach((each) => (each.open = true)));
  window.addEventListener("afterprint", () => folded.splice(0).forEach((each) => (each.open = false)));
  await draw();
}
