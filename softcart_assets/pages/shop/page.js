// The page: filters, cards, tables and charts over the sums of sales.js.
// Text from the data goes into the document as text only, never as markup.
// Every figure shown carries data-figure and data-value: exact, in units, parts of one or currency.

const $ = (selector, root = document) => root.querySelector(selector);

/** A new element: `make("td", {class: "number"}, "text", child …)`. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const data = await unpack($("#data").textContent);
const { charts, themes } = data;

// ---- Numbers, dates and names as text, in the reader's language -----------------------------------------------------

const number = (options) => {
  const format = new Intl.NumberFormat(undefined, options);
  return (value) => (value === null ? "–" : format.format(value));
};
const currency = { style: "currency", currency: data.currency ?? "EUR" };
const exactly = number(currency);
const roundly = number({ ...currency, maximumFractionDigits: 0 });
const briefly = number({ ...currency, notation: "compact", maximumSignificantDigits: 3 });
const money = (cents) => (cents === null ? "–" : (Math.abs(cents) < 100_000 ? exactly : roundly)(cents / 100));
const whole = number({ maximumFractionDigits: 0 });
const decimal = number({ maximumFractionDigits: 1, minimumFractionDigits: 1 });
const percent = number({ style: "percent", maximumFractionDigits: 1, minimumFractionDigits: 1 });

/** Cents as an exact decimal number, e.g. "-12.05". */
function plain(cents) {
  const digits = String(Math.abs(cents)).padStart(3, "0");
  return `${cents < 0 ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
/** How each kind of figure is shown, and its `data-value`. */
const KINDS = {
  money: { show: money, value: (cents) => plain(Math.round(cents)) },
  // In columns, where what counts is the size: without cents.
  amount: { show: (cents) => (cents === null ? "–" : roundly(cents / 100)), value: plain },
  count: { show: whole, value: String },
  decimal: { show: decimal, value: String },
  rate: { show: percent, value: (rate) => rate.toFixed(6) },
};
const figure = (name, kind, value) => ({
  "data-figure": name,
  "data-value": value === null ? "" : KINDS[kind].value(value),
});

const dateText = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });
const monthText = new Intl.DateTimeFormat(undefined, { month: "long", year: "numeric", timeZone: "UTC" });
const dateOf = (day) => dateText.format(day * 864e5);
const rangeOf = (from, to) => (from === to ? dateOf(from) : dateText.formatRange(from * 864e5, to * 864e5));
const weekdayText = new Intl.DateTimeFormat(undefined, { weekday: "long", timeZone: "UTC" });
const WEEKDAYS = [4, 5, 6, 7, 8, 9, 10].map((day) => weekdayText.format(day * 864e5)); // 1970-01-05 was a Monday

const countryNames = new Intl.DisplayNames(undefined, { type: "region", fallback: "code" });
function countryName(code) {
  try {
    return countryNames.of(code);
  } catch {
    return code; // not a country code at all
  }
}
const capital = (text) => text[0].toUpperCase() + text.slice(1).replaceAll("_", " ");
/** The name of a path of a dimension. */
const NAMES = {
  place: ([country, region]) =>
    region !== undefined ? (region ?? "No region") : country ? countryName(country) : "Unknown country",
  seller: ([channel, store]) =>
    store !== undefined
      ? (data.stores[store]?.name ?? `Store ${store}`)
      : channel
        ? `${capital(channel)} stores`
        : "Unknown stores",
  device: ([device]) => (device ? capital(device) : "Unknown"),
  category: ([department, category]) =>
    category !== undefined ? (data.categories[category] ?? "No category") : (department ?? "Not in the catalogue"),
};
const WHOLE = { place: "Countries", seller: "Stores", device: "Devices", category: "Departments" };
const PARTS = { place: "Regions of", seller: "Stores ·", category: "Categories of" };
const FINER = { place: "region", seller: "store", category: "category" };
/** Whether the page knows the second level of that dimension: see _LADDER in data.py. */
const isFine = (dimension) => dimension in FINER && !data.coarsened.includes(FINER[dimension]);

const productName = (product) => data.products.name[product] ?? data.products.id[product] ?? "Unknown product";
const productPath = (product) => [data.products.department[product], data.products.category[product]];
const storeName = (store) => NAMES.seller([null, store]);

/** The change against a year before, as an element: arrow, text, good or bad. `points`: the difference of two rates. */
function change(now, before, { points = false, rising = "good" } = {}) {
  if (now === null || before === null || (!points && !before)) return make("span", {}, "–");
  const difference = points ? now - before : (now - before) / Math.abs(before);
  const text = points ? `${decimal(Math.abs(difference) * 100)} pp` : percent(Math.abs(difference));
  const falling = rising === "good" ? "bad" : "good";
  const flat = Math.abs(difference) < 0.0005;
  const arrow = flat ? "=" : difference > 0 ? "▲" : "▼";
  return make("b", { class: flat ? "" : difference > 0 ? rising : falling }, `${arrow} ${text}`);
}

// ---- Tables ---------------------------------------------------------------------------------------------------------

/**
 * A sortable table. Columns: `key`, `label`, `show(row)` (text or element), and optionally `kind` with the row's value
 * under `key` (a figure), `wide` (left out on phones), `bar` (a bar under the value).
 * Rows need a `key`. Returns `draw(rows)`.
 */
function sortable(id, columns, { sort, limit = 15 }) {
  const table = $(`#${id}`);
  let [by, descending, shown, rows] = [sort, true, limit, []];
  const more = make("button", { type: "button", class: "more", onclick: () => ((shown += limit * 2), draw()) });
  table.after(more);
  const classes = ({ kind, wide }) => [kind && "number", wide && "wide"].filter(Boolean).join(" ") || undefined;
  function sortBy(column) {
    descending = by === column.key ? !descending : column.kind !== undefined;
    by = column.key;
    draw();
  }
  function cell(column, row, largest) {
    const value = row[column.key];
    const content = column.show ? column.show(row) : KINDS[column.kind].show(value);
    const attributes = { class: classes(column) };
    if (column.kind) Object.assign(attributes, figure(`${id}-${column.key}`, column.kind, value));
    const element = make("td", attributes, content);
    if (column.bar) {
      const fill = make("i");
      fill.style.setProperty("--share", `${Math.max(0, (100 * value) / largest || 0)}%`);
      element.append(make("span", { class: "bar", "aria-hidden": "true" }, fill));
    }
    return element;
  }
  function draw() {
    const collator = new Intl.Collator();
    const compare = (a, b) =>
      typeof (a ?? b) === "string" ? collator.compare(a ?? "", b ?? "") : (a ?? -Infinity) - (b ?? -Infinity);
    rows.sort((a, b) => (descending ? compare(b[by], a[by]) : compare(a[by], b[by])));
    const bar = columns.find((column) => column.bar);
    const largest = bar && rows.reduce((top, row) => Math.max(top, row[bar.key]), 0);
    const heads = columns.map((column) => {
      const isSorted = by === column.key;
      const button = { type: "button", "data-sort": column.key, onclick: () => sortBy(column) };
      const label = column.label + (isSorted ? (descending ? " ↓" : " ↑") : "");
      const order = isSorted ? { "aria-sort": descending ? "descending" : "ascending" } : {};
      return make("th", { scope: "col", class: classes(column), ...order }, make("button", button, label));
    });
    const body = rows
      .slice(0, shown)
      .map((row) => make("tr", { "data-key": row.key }, ...columns.map((column) => cell(column, row, largest))));
    if (!body.length)
      body.push(make("tr", {}, make("td", { colspan: columns.length, class: "none" }, "Nothing to show.")));
    const focused = table.contains(document.activeElement) && document.activeElement.dataset.sort;
    table.replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
    if (focused) $(`[data-sort="${focused}"]`, table).focus();
    more.hidden = rows.length <= shown;
    more.textContent = `Show more (${whole(rows.length - shown)} left)`;
  }
  return (newRows) => {
    rows = newRows;
    shown = limit;
    draw();
  };
}

const two = (first, second, attributes) => make("span", {}, first, make("small", attributes, second));

/** The ranking of a dimension: its first level, or what lies in the chosen part; a click on a name chooses it. */
function ranking(dimension, extra) {
  const draw = sortable(
    dimension,
    [
      {
        key: "name",
        label: "Name",
        show: (row) =>
          make("button", { type: "button", class: "link", onclick: () => choose(dimension, row.path) }, row.name),
      },
      { key: "revenue", label: "Revenue", kind: "amount", bar: true },
      { key: "change", label: "vs. year before", kind: "rate", show: (row) => change(row.revenue, row.before) },
      ...extra,
    ],
    { sort: "revenue", limit: 8 },
  );
  return (now, before, filter) => {
    // Stores are few and compared with each other, whatever their channel.
    const depth = !isFine(dimension) ? 1 : dimension === "seller" ? 2 : Math.min(filter.length + 1, 2);
    const groups = new Map();
    sales.paths[dimension].forEach((full, n) => {
      if (!startsWith(full, filter)) return;
      const path = full.slice(0, depth);
      const key = JSON.stringify(path);
      if (!groups.has(key)) groups.set(key, { key, path, name: NAMES[dimension](path), now: new Sums(1), before: 0 });
      const group = groups.get(key);
      const sums = now[dimension];
      group.now.add(0, sums.revenue[n], sums.margin[n], sums.units[n], sums.refund[n], sums.orders[n]);
      group.before = before && group.before + before[dimension].revenue[n];
    });
    const rows = [...groups.values()].filter((group) => group.now.orders[0] || group.before);
    draw(
      rows.map(({ key, path, name, now: sums, before: earlier }) => ({
        key,
        path,
        name,
        before: earlier,
        change: earlier ? (sums.revenue[0] - earlier) / Math.abs(earlier) : null,
        ...figures(sums),
      })),
    );
    const title =
      filter.length && isFine(dimension)
        ? `${PARTS[dimension]} ${NAMES[dimension](filter.slice(0, 1))}`
        : WHOLE[dimension];
    const back = { type: "button", class: "link back", onclick: () => choose(dimension, filter.slice(0, -1)) };
    $(`#h-${dimension}`).replaceChildren(title, ...(filter.length ? [make("button", back, "← Back")] : []));
  };
}

// ---- Filters --------------------------------------------------------------------------------------------------------

const form = $("form");

/** Fills the filter of a dimension with its paths, the parts of each grouped under it. */
function fill(dimension, all) {
  const tree = new Map();
  for (const [parent, part] of sales.paths[dimension]) {
    if (!tree.has(parent)) tree.set(parent, []);
    if (isFine(dimension)) tree.get(parent).push([parent, part]);
  }
  const option = (path, text) => make("option", { value: JSON.stringify(path) }, text);
  const byName = (a, b) => NAMES[dimension](a).localeCompare(NAMES[dimension](b));
  const parents = [...tree.keys()].map((parent) => [parent]).sort(byName);
  form.elements[dimension].replaceChildren(
    option([], all),
    ...parents.map((path) => {
      const parts = tree.get(path[0]).sort(byName);
      const name = NAMES[dimension](path);
      if (!parts.length) return option(path, name);
      const options = parts.map((part) => option(part, NAMES[dimension](part)));
      return make("optgroup", { label: name }, option(path, `${name}: all`), ...options);
    }),
  );
}

/** What the form says: `{from, to, filters}`; null while a custom period makes no sense. */
function selection() {
  const name = form.elements.period.value;
  const days = name === "custom" ? [form.elements.from.value, form.elements.to.value] : data.periods[name];
  const [from, to] = days.map(dayOf);
  if (!(from <= to)) return null;
  const filters = Object.fromEntries(DIMENSIONS.map((key) => [key, JSON.parse(form.elements[key].value)]));
  return { from, to, filters };
}

/** Puts the choices of the address (after #) into the form; what it does not know stays unfiltered. */
function readAddress() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  for (const control of [...form.elements].filter((element) => element.name)) {
    const fallback = { period: data.period, from: data.first, to: data.last }[control.name] ?? "[]";
    control.value = chosen.get(control.name) ?? fallback;
    if (!control.value) control.value = fallback;
  }
}
function writeAddress() {
  const custom = form.elements.period.value === "custom";
  const entries = [...new FormData(form)].filter(
    ([name, value]) => value !== "[]" && (custom || (name !== "from" && name !== "to")),
  );
  history.replaceState(null, "", `#${new URLSearchParams(entries)}`);
}

async function choose(dimension, path) {
  form.elements[dimension].value = JSON.stringify(path);
  await changed();
  $(`#h-${dimension} .back`)?.focus(); // what was clicked has gone
}
function clear() {
  history.replaceState(null, "", "#");
  readAddress();
  changed();
}

// ---- Panels ---------------------------------------------------------------------------------------------------------

const CARDS = [
  { name: "revenue", label: "Revenue", kind: "money" },
  { name: "margin", label: "Margin", kind: "money" },
  { name: "marginRate", label: "Margin %", kind: "rate", points: true },
  { name: "returnRate", label: "Return rate", kind: "rate", points: true, rising: "bad" },
  { name: "orders", label: "Orders", kind: "count" },
  { name: "basket", label: "Average basket", kind: "money" },
  { name: "units", label: "Units sold", kind: "count" },
  { name: "customers", label: "Customers", kind: "count" },
];

/** What orders and the average basket are called: under a category filter they are those that contain it. */
function orderNames(category) {
  if (!category.length) return { orders: "Orders", basket: "Average basket" };
  const name = NAMES.category(category);
  return { orders: `Orders with ${name}`, basket: `Spent on ${name} per order` };
}

function drawCards(now, before, names) {
  $("#kpis").replaceChildren(
    ...CARDS.map(({ name, label, kind, ...options }) => {
      const line = make("p", { class: "change" });
      if (now[name] === null) line.append("not counted for this selection");
      else if (!before || before[name] === null) line.append("no figures a year before");
      else {
        const earlier = (
          kind === "money" && Math.abs(before[name]) >= 1e6 ? (cents) => briefly(cents / 100) : KINDS[kind].show
        )(before[name]);
        line.append(change(now[name], before[name], options), " vs. ");
        line.append(make("span", figure(`${name}-before`, kind, before[name]), earlier));
      }
      const title = kind === "money" && now[name] !== null ? exactly(now[name] / 100) : undefined;
      const value = make("p", { class: "value", title, ...figure(name, kind, now[name]) }, KINDS[kind].show(now[name]));
      return make("article", { class: "kpi" }, make("h2", {}, names[name] ?? label), value, line);
    }),
  );
}

const TREND = { revenue: "amount", margin: "amount", orders: "count", basket: "money" };
function drawTrendTable(pieces) {
  const heads = Object.keys(TREND).flatMap((name) => [
    capital(name === "basket" ? "average basket" : name),
    "a year before",
  ]);
  const cells = (piece) =>
    Object.entries(TREND).flatMap(([name, kind]) =>
      [piece.now, piece.before].map((side, n) => {
        const value = side ? side[name] : null;
        const attributes = figure(n ? `trend-${name}-before` : `trend-${name}`, kind, value);
        return make("td", { class: "number", ...attributes }, KINDS[kind].show(value));
      }),
    );
  $("#trend").replaceChildren(
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        ...["When", ...heads].map((head, n) => make("th", { scope: "col", class: n ? "number" : "" }, head)),
      ),
    ),
    make(
      "tbody",
      {},
      ...pieces.map((piece) =>
        make("tr", { "data-key": isoOf(piece.from) }, make("td", {}, rangeOf(piece.from, piece.to)), ...cells(piece)),
      ),
    ),
  );
}

function drawTrend(now, before, { from, to }, beforeFrom) {
  const { unit, pieces } = cut(from, to);
  const basket = (sums) => ({ ...sums, basket: sums.orders ? sums.revenue / sums.orders : null });
  for (const piece of pieces) {
    const [start, end] = yearBefore(piece.from, piece.to);
    piece.now = basket(sumDays(now.day, from, piece.from, piece.to));
    piece.before = before && start >= beforeFrom ? basket(sumDays(before.day, beforeFrom, start, end)) : null;
  }
  drawTrendTable(pieces);
  for (const element of document.querySelectorAll(".unit")) element.textContent = `by ${unit}`;
  $(".unit-name").textContent = unit;
  $("#part").hidden = pieces.every((piece) => piece.whole);
  for (const [name, kind] of Object.entries(TREND)) {
    const scale = kind === "count" ? 1 : 100;
    plot(
      name,
      pieces.map((piece) => {
        const [value, earlier] = [piece.now[name], piece.before ? piece.before[name] : null];
        return {
          start: piece.start * 864e5,
          whole: piece.whole,
          value: value === null ? null : value / scale,
          previous: earlier === null ? null : earlier / scale,
          label: rangeOf(piece.from, piece.to),
          valueText: KINDS[kind].show(value),
          previousText: KINDS[kind].show(earlier),
          changeText: change(value, earlier).textContent,
        };
      }),
    );
  }
}

/** Orders by device and hour, and by weekday and hour, as far as the page knows them. */
function hourSums(now, filters) {
  if (now.hourOfDevice) return [now.hourOfDevice, now.hourOfWeekday];
  const devices = sales.paths.device.map(([device]) => device);
  const [byDevice, byWeekday] = [new Float64Array(devices.length * 24), new Float64Array(7 * 24)];
  const { device, weekday, hour, orders } = data.hours;
  device.forEach((name, n) => {
    if (!startsWith([name], filters.device) || !devices.includes(name)) return;
    byDevice[devices.indexOf(name) * 24 + hour[n]] += orders[n];
    byWeekday[(weekday[n] - 1) * 24 + hour[n]] += orders[n];
  });
  return [byDevice, byWeekday];
}

function drawHours(now, filters) {
  const [byDevice, byWeekday] = hourSums(now, filters);
  const grid = (names, sums) =>
    names.flatMap((row, n) =>
      Array.from({ length: 24 }, (_, hour) => ({
        row,
        hour,
        orders: sums[n * 24 + hour],
        text: whole(sums[n * 24 + hour]),
      })),
    );
  const devices = sales.paths.device.map((path) => NAMES.device(path));
  const [deviceRows, weekdayRows] = [grid(devices, byDevice), grid(WEEKDAYS, byWeekday)];
  plot("hours-by-device", deviceRows);
  plot("hours-by-weekday", weekdayRows);
  const hours = Array.from({ length: 24 }, (_, hour) => make("th", { scope: "col", class: "number" }, `${hour}:00`));
  const lines = Map.groupBy([...deviceRows, ...weekdayRows], (cell) => cell.row);
  $("#hours").replaceChildren(
    make("thead", {}, make("tr", {}, make("th"), ...hours)),
    make(
      "tbody",
      {},
      ...[...lines].map(([row, cells]) =>
        make(
          "tr",
          { "data-key": row },
          make("th", { scope: "row" }, row),
          ...cells.map((cell) =>
            make(
              "td",
              { class: "number", ...figure("hours-orders", "count", cell.orders), "data-hour": cell.hour },
              cell.text,
            ),
          ),
        ),
      ),
    ),
  );
  $("#hours-note").textContent = now.hourOfDevice ? "" : "Over all orders: follows the device filter only.";
}

/** Sums by product: of the selection, or of whole months where the page's sales do not carry the product. */
function productSums(now, { from, to, filters }) {
  if (now.product) return [now.product, ""];
  const sums = new Sums(data.products.id.length);
  const { month, product, ...measures } = data.productMonths;
  const [first, last] = [from, to].map((day) => `${isoOf(day).slice(0, 7)}-01`);
  month.forEach((start, n) => {
    if (start < first || start > last || !startsWith(productPath(product[n]), filters.category)) return;
    sums.add(product[n], ...MEASURES.map((name) => measures[name][n]), 0);
  });
  const months = [...new Set([first, last])].map((start) => monthText.format(dayOf(start) * 864e5)).join(" to ");
  return [sums, `Whole months, ${months}: follows the period and the category filter only.`];
}

function drawProducts(now, chosen) {
  const [sums, note] = productSums(now, chosen);
  $("#product-note").textContent = note;
  const rows = [];
  sums.revenue.forEach((_, product) => {
    if (!sums.units[product] && !sums.revenue[product]) return;
    const [department, category] = productPath(product);
    const group = data.categories[category] ?? department ?? "Not in the catalogue";
    rows.push({ key: data.products.id[product], name: productName(product), group, ...figures(sums, product) });
  });
  drawTable.product(rows);
}

function drawStock({ seller, category }) {
  const { product, store, risk, counts } = data.stock;
  const inStore = (id) => startsWith([data.stores[id]?.channel ?? null, id], seller);
  const total = { out: 0, critical: 0, low: 0 };
  counts.products.forEach((count, n) => {
    if (inStore(counts.store[n]) && startsWith([counts.department[n], counts.category[n]], category))
      total[counts.risk[n]] += count;
  });
  const labels = { out: "Out of stock", critical: "Critical", low: "Low" };
  $("#risks").replaceChildren(
    ...Object.entries(labels).map(([name, label]) => {
      const toggle = () => (
        (onlyRisk = onlyRisk === name ? null : name),
        drawStock({ seller, category }),
        $(`[data-risk=${name}]`).focus()
      );
      const attributes = { type: "button", "aria-pressed": onlyRisk === name, "data-risk": name, onclick: toggle };
      return make(
        "button",
        attributes,
        label,
        make("b", figure(`stock-${name}`, "count", total[name]), whole(total[name])),
      );
    }),
  );
  const urgency = { out: 3, critical: 2, low: 1 };
  const rows = [];
  product.forEach((id, n) => {
    if (!inStore(store[n]) || !startsWith(productPath(id), category) || (onlyRisk && risk[n] !== onlyRisk)) return;
    rows.push({
      key: `${store[n]}/${data.products.id[id]}`,
      name: productName(id),
      store: storeName(store[n]),
      risk: risk[n],
      label: labels[risk[n]],
      urgency: urgency[risk[n]] * 1e9 + data.stock.sold[n],
      quantity: data.stock.quantity[n],
      cover: data.stock.cover[n],
      sold: data.stock.sold[n],
      reorder: data.stock.reorder[n],
    });
  });
  drawTable.stock(rows);
  const wanted = onlyRisk ? total[onlyRisk] : total.out + total.critical + total.low;
  $("#stock-note").textContent =
    "As of now: follows the store and category filters only. Best sellers of the last 28 days first." +
    (rows.length < wanted ? ` Listed are the ${whole(rows.length)} most urgent of ${whole(wanted)}.` : "");
}

function drawPairs({ category }) {
  const { a, b, baskets, lift, ab, ba } = data.pairs;
  const rows = a.map((_, n) => ({
    key: `${data.products.id[a[n]]}/${data.products.id[b[n]]}`,
    sides: [a[n], b[n]],
    name: `${productName(a[n])} + ${productName(b[n])}`,
    baskets: baskets[n],
    lift: lift[n],
    share: Math.max(ab[n], ba[n]) / 100,
  }));
  drawTable.pair(rows.filter((row) => row.sides.some((side) => startsWith(productPath(side), category))));
}

function drawSegments() {
  const { segment, customers, revenue, recency, frequency } = data.segments;
  const everyone = customers.reduce((sum, count) => sum + count, 0);
  drawTable.segment(
    segment.map((name, n) => ({
      key: name,
      name: capital(name),
      customers: customers[n],
      share: customers[n] / everyone,
      revenue: revenue[n],
      recency: recency[n],
      frequency: frequency[n],
    })),
  );
}

// ---- Charts ---------------------------------------------------------------------------------------------------------

const views = {};
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Number and date names for the charts' axes, from the browser's own. */
function locales() {
  const parts = new Intl.NumberFormat(undefined, currency).formatToParts(-12345.6);
  const part = (type) => parts.find((piece) => piece.type === type)?.value ?? "";
  const isBefore =
    parts.findIndex(({ type }) => type === "currency") < parts.findIndex(({ type }) => type === "integer");
  const symbol = part("currency");
  const names = (options, dates) =>
    dates.map((date) => new Intl.DateTimeFormat(undefined, { timeZone: "UTC", ...options }).format(date));
  const months = Array.from({ length: 12 }, (_, month) => Date.UTC(2024, month));
  const days = Array.from({ length: 7 }, (_, day) => Date.UTC(2024, 8, day + 1)); // a Sunday first
  return {
    formatLocale: {
      decimal: part("decimal"),
      thousands: part("group"),
      grouping: [3],
      currency: isBefore ? [symbol, ""] : ["", ` ${symbol}`],
    },
    timeFormatLocale: {
      dateTime: "%c",
      date: "%x",
      time: "%X",
      periods: ["AM", "PM"],
      days: names({ weekday: "long" }, days),
      shortDays: names({ weekday: "short" }, days),
      months: names({ month: "long" }, months),
      shortMonths: names({ month: "short" }, months),
    },
  };
}

/** Shows these rows in a chart of the page, which is made at its first rows and after a change of theme. */
const plotting = [];
function plot(name, rows) {
  const show = async () => {
    if (views[name]) return views[name].data("rows", rows).runAsync();
    const theme = dark.matches ? "dark" : "light";
    const options = {
      renderer: "svg",
      actions: false,
      defaultStyle: false,
      config: themes[theme],
      tooltip: { theme },
      ...locales(),
    };
    const specification = { ...charts[name], datasets: { rows } };
    ({ view: views[name] } = await vegaEmbed($(`[data-chart="${name}"]`), specification, options));
  };
  plotting.push(show());
}
function forgetCharts() {
  for (const name in views) {
    views[name].finalize();
    delete views[name];
  }
}

// ---- All together ---------------------------------------------------------------------------------------------------

const sales = data.sales && new Sales(data);
const drawTable = {};
let onlyRisk = null;

/** Customers of the selection; where the page does not embed them, those counted for the named periods unfiltered. */
function customersOf(sums, from, to, filters) {
  if (sums.customers !== null) return sums.customers;
  const isFiltered = DIMENSIONS.some((name) => filters[name].length);
  return isFiltered ? null : (data.customers[`${isoOf(from)}/${isoOf(to)}`] ?? null);
}

async function draw() {
  for (const label of form.querySelectorAll(".custom")) label.hidden = form.elements.period.value !== "custom";
  const chosen = selection();
  if (!chosen) {
    $("#empty").hidden = $("#figures").hidden = true;
    $("#span").textContent = "Choose a first and a last day, the first not after the last.";
    return;
  }
  const { from, to, filters } = chosen;
  const now = sales.sum(from, to, filters);
  // The page may reach back over only part of the year before: then its charts show that part, its figures none.
  const [wanted, beforeTo] = yearBefore(from, to);
  const beforeFrom = Math.max(wanted, sales.first);
  const before = beforeFrom <= beforeTo ? sales.sum(beforeFrom, beforeTo, filters) : null;
  const comparable = beforeFrom === wanted ? before : null;

  const isEmpty = !now.all.orders[0];
  $("#empty").hidden = !isEmpty;
  const isShownAnew = $("#figures").hidden && !isEmpty;
  $("#figures").hidden = isEmpty;
  $("#span").replaceChildren(
    make("b", {}, rangeOf(from, to)),
    comparable
      ? ` compared with ${rangeOf(wanted, beforeTo)}`
      : " (production does not reach back to the same days a year before)",
  );
  const names = DIMENSIONS.filter((name) => filters[name].length).map((name) => NAMES[name](filters[name]));
  $("#chosen").textContent = [form.elements.period.selectedOptions[0].text, ...names].join(" · ");
  for (const control of form.querySelectorAll("select"))
    control.classList.toggle("set", control.name !== "period" && control.value !== "[]");

  if (!isEmpty) {
    const totals = (sums, ...days) => sums && { ...figures(sums.all), customers: customersOf(sums, ...days, filters) };
    const orderNamed = orderNames(filters.category);
    for (const [name, text] of Object.entries(orderNamed)) $(`.${name}-name`).textContent = text;
    drawCards(totals(now, from, to), totals(comparable, wanted, beforeTo), orderNamed);
    if (isShownAnew) window.dispatchEvent(new Event("resize")); // charts measure themselves only while they are shown
    drawTrend(now, before, chosen, beforeFrom);
    for (const dimension of DIMENSIONS) drawTable[dimension](now, comparable, filters[dimension]);
    drawProducts(now, chosen);
    drawHours(now, filters);
  }
  drawPairs(filters);
  drawStock(filters);
  await Promise.all(plotting.splice(0));
}

/** Draws once more, one drawing after the other; `data-drawn` counts them. */
let drawing = Promise.resolve();
function changed() {
  writeAddress();
  drawing = drawing.then(draw).then(() => {
    document.body.dataset.drawn = Number(document.body.dataset.drawn ?? 0) + 1;
  });
  return drawing;
}

function setUp() {
  const rate = (key, label, wide) => ({ key, label, kind: "rate", wide });
  const bySales = [rate("marginRate", "Margin %"), { key: "orders", label: "Orders", kind: "count", wide: true }];
  drawTable.category = ranking("category", [rate("marginRate", "Margin %"), rate("returnRate", "Returns", true)]);
  drawTable.place = ranking("place", bySales);
  drawTable.seller = ranking("seller", bySales);
  drawTable.device = ranking("device", [{ key: "basket", label: "Average basket", kind: "money" }]);
  drawTable.product = sortable(
    "product",
    [
      { key: "name", label: "Product", show: (row) => two(row.name, row.group) },
      { key: "revenue", label: "Revenue", kind: "amount", bar: true },
      { key: "margin", label: "Margin", kind: "amount", wide: true },
      rate("marginRate", "Margin %"),
      { key: "units", label: "Units", kind: "count", wide: true },
      { key: "refund", label: "Refunds", kind: "amount", wide: true },
      rate("returnRate", "Returns"),
    ],
    { sort: "revenue", limit: 10 },
  );
  drawTable.segment = sortable(
    "segment",
    [
      { key: "name", label: "Segment", show: (row) => row.name },
      { key: "customers", label: "Customers", kind: "count", bar: true },
      rate("share", "Share", true),
      { key: "revenue", label: "Revenue", kind: "amount" },
      { key: "recency", label: "Days since last order", kind: "decimal", wide: true },
      { key: "frequency", label: "Orders each", kind: "decimal" },
    ],
    { sort: "revenue" },
  );
  drawTable.pair = sortable(
    "pair",
    [
      {
        key: "name",
        label: "Products",
        show: (row) => two(productName(row.sides[0]), `+ ${productName(row.sides[1])}`),
      },
      { key: "baskets", label: "Orders with both", kind: "count" },
      rate("share", "Buyers of one who buy the other", true),
      { key: "lift", label: "Lift", kind: "decimal" },
    ],
    { sort: "baskets", limit: 8 },
  );
  drawTable.stock = sortable(
    "stock",
    [
      { key: "name", label: "Product", show: (row) => two(row.name, row.store, { class: "phone" }) },
      { key: "store", label: "Store", wide: true, show: (row) => row.store },
      { key: "urgency", label: "Risk", show: (row) => make("span", { class: `risk ${row.risk}` }, row.label) },
      { key: "quantity", label: "On hand", kind: "count" },
      { key: "cover", label: "Days of cover", kind: "decimal" },
      { key: "sold", label: "Sold in 28 days", kind: "count", wide: true },
      { key: "reorder", label: "Reorder at", kind: "count", wide: true },
    ],
    { sort: "urgency" },
  );
  fill("place", "All countries");
  fill("seller", "All stores");
  fill("device", "All devices");
  fill("category", "All departments");
  for (const name of ["from", "to"]) Object.assign(form.elements[name], { min: data.first, max: data.last });
  $("option[value=all]").textContent = data.earlier ? `All shown (since ${dateOf(sales.first)})` : "All";
  const left = data.coarsened.filter((name) => name !== "basket");
  $("#detail").textContent = left.length
    ? `This shop is too large to embed every order. Sales are summed by day, exactly; left out: ${left.join(", ")}.`
    : "Every order is in this page, without anything that identifies a customer; every figure follows every filter unless its panel says otherwise.";
  const others = data.otherCurrencies.map(({ currency, lines }) => `${lines} in ${currency}`);
  if (others.length)
    $("#detail").textContent +=
      ` Amounts in several currencies cannot be added up: this page shows ${data.currency}. Order lines not shown: ${others.join(", ")}.`;
  if (data.undated)
    $("#detail").textContent += ` Order lines not shown because their date is implausible: ${whole(data.undated)}.`;
  drawSegments();
}

const asOf = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
$("#as-of").textContent = data.asOf ? `${asOf.format(new Date(data.asOf))} UTC` : "–";
$("#version").textContent = data.version ?? "–";

if (!sales) {
  $("#message").textContent =
    "Production holds no sales yet. Load the sources and publish, then build this page again.";
  $("#message").hidden = false;
  document.body.dataset.drawn = 1;
} else {
  $("#message").hidden = true;
  $("#main").hidden = false;
  $(".filters").open = matchMedia("(min-width: 901px)").matches;
  setUp();
  readAddress();
  form.addEventListener("change", changed);
  form.addEventListener("reset", (event) => (event.preventDefault(), clear()));
  form.addEventListener("submit", (event) => event.preventDefault());
  $("#clear").addEventListener("click", clear);
  window.addEventListener("hashchange", () => (readAddress(), changed()));
  dark.addEventListener("change", () => (forgetCharts(), changed()));
  await changed();
}
