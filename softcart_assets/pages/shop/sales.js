// Sums over the embedded sales. Here belongs arithmetic only: nothing here touches the document.
// Days are numbers (days since 1970-01-01), amounts are integers in cents, so every sum is exact.
// A filter is a path, e.g. ["DE"] or ["DE", "Bayern"]; it takes everything whose own path starts with it.

const MEASURES = ["revenue", "margin", "units", "refund"];
const DIMENSIONS = ["place", "seller", "device", "category"];

const dayOf = (iso) => Date.parse(`${iso}T00:00Z`) / 864e5;
const isoOf = (day) => new Date(day * 864e5).toISOString().slice(0, 10);

/** The same date some years later; the 28th for a 29th of February that does not exist. */
function shiftYears(day, years) {
  const date = new Date(day * 864e5);
  const month = date.getUTCMonth();
  date.setUTCFullYear(date.getUTCFullYear() + years);
  if (date.getUTCMonth() !== month) date.setUTCDate(0);
  return date.getTime() / 864e5;
}

/** The first and last of the same days a year before. */
const yearBefore = (from, to) => [shiftYears(from, -1), shiftYears(to + 1, -1) - 1];

const startsWith = (path, prefix) => prefix.every((part, n) => part === path[n]);

/** Sums of all measures, and of orders, for each of `size` things. */
class Sums {
  constructor(size) {
    for (const name of [...MEASURES, "orders"]) this[name] = new Float64Array(size);
  }
  add(n, revenue, margin, units, refund, orders) {
    this.revenue[n] += revenue;
    this.margin[n] += margin;
    this.units[n] += units;
    this.refund[n] += refund;
    this.orders[n] += orders;
  }
}

class Sales {
  /** `sales` as embedded: baskets and items by column; baskets are sorted by day. */
  constructor(data) {
    const { baskets, items, paths, customers } = data.sales;
    Object.assign(this, { baskets, items, paths, customers });
    this.first = dayOf(data.first);
    this.products = data.products.id.length;
    this.begin = new Int32Array(baskets.day.length + 1);
    baskets.items.forEach((count, n) => (this.begin[n + 1] = this.begin[n] + count));
  }

  /** Where the baskets of that day begin. */
  basketsFrom(day) {
    const days = this.baskets.day;
    let [low, high] = [0, days.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (days[middle] + this.first < day) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** All sums for the days `from` to `to` (both included) and these filters. */
  sum(from, to, filters) {
    const { baskets, items, begin, paths } = this;
    const chosen = Object.fromEntries(
      DIMENSIONS.map((name) => [name, paths[name].map((path) => startsWith(path, filters[name]))]),
    );
    // An order counts once under the filter at hand: see `_sales_query` in data.py.
    const marks = [items.orders, items.ordersOfDepartment, items.ordersOfCategory];
    const mark = marks[filters.category.length];
    const markOfPart = marks[Math.min(filters.category.length + 1, 2)]; // within each part of what is chosen
    const { revenue: itemRevenue, margin: itemMargin, units: itemUnits, refund: itemRefund } = items;
    const days = Math.max(0, to - from + 1);
    const result = {
      all: new Sums(1),
      day: new Sums(days),
      place: new Sums(paths.place.length),
      seller: new Sums(paths.seller.length),
      device: new Sums(paths.device.length),
      category: new Sums(paths.category.length),
      product: items.product && new Sums(this.products),
      hourOfDevice: baskets.hour && new Float64Array(paths.device.length * 24),
      hourOfWeekday: baskets.hour && new Float64Array(7 * 24),
      customers: null,
    };
    const seen = baskets.customer && new Uint8Array(this.customers);
    const end = this.basketsFrom(to + 1);
    for (let basket = this.basketsFrom(from); basket < end; basket++) {
      const place = baskets.place[basket];
      const seller = baskets.seller[basket];
      const device = baskets.device[basket];
      if (!chosen.place[place] || !chosen.seller[seller] || !chosen.device[device]) continue;
      let [revenue, margin, units, refund, orders] = [0, 0, 0, 0, 0];
      for (let item = begin[basket]; item < begin[basket + 1]; item++) {
        const category = items.category[item];
        if (!chosen.category[category]) continue;
        const [r, m, u, f] = [itemRevenue[item], itemMargin[item], itemUnits[item], itemRefund[item]];
        result.category.add(category, r, m, u, f, markOfPart[item]);
        result.product?.add(items.product[item], r, m, u, f, 0); // orders by product are not shown
        revenue += r;
        margin += m;
        units += u;
        refund += f;
        orders += mark[item];
      }
      if (!orders) continue; // nothing of this basket is chosen
      const day = baskets.day[basket] + this.first;
      result.all.add(0, revenue, margin, units, refund, orders);
      result.day.add(day - from, revenue, margin, units, refund, orders);
      result.place.add(place, revenue, margin, units, refund, orders);
      result.seller.add(seller, revenue, margin, units, refund, orders);
      result.device.add(device, revenue, margin, units, refund, orders);
      if (baskets.hour && baskets.hour[basket] >= 0) {
        result.hourOfDevice[device * 24 + baskets.hour[basket]] += orders;
        result.hourOfWeekday[((day + 3) % 7) * 24 + baskets.hour[basket]] += orders; // day 0 was a Thursday
      }
      if (seen && baskets.customer[basket] >= 0) seen[baskets.customer[basket]] = 1;
    }
    if (seen) result.customers = seen.reduce((count, mark) => count + mark, 0);
    return result;
  }
}

/** The figures a manager reads, from sums; null where there is nothing to divide by. */
function figures(sums, n = 0) {
  const [revenue, margin, units, refund, orders] = [...MEASURES, "orders"].map((name) => sums[name][n]);
  return {
    revenue,
    margin,
    units,
    refund,
    orders,
    marginRate: revenue ? margin / revenue : null,
    returnRate: revenue ? refund / revenue : null,
    basket: orders ? revenue / orders : null,
  };
}

/** The period cut into days, weeks (from Monday) or months, by its length: `{start, from, to, whole}` each. */
function cut(from, to) {
  const length = to - from + 1;
  const unit = length <= 62 ? "day" : length <= 200 ? "week" : "month";
  const pieces = [];
  for (let day = from; day <= to;) {
    const date = new Date(day * 864e5);
    let [start, next] = [day, day + 1];
    if (unit === "week") {
      start = day - ((day + 3) % 7);
      next = start + 7;
    } else if (unit === "month") {
      start = Date.UTC(date.getUTCFullYear(), date.getUTCMonth()) / 864e5;
      next = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1) / 864e5;
    }
    const last = Math.min(next - 1, to);
    pieces.push({ start, from: day, to: last, whole: start === day && last === next - 1 });
    day = last + 1;
  }
  return { unit, pieces };
}

/** Revenue, margin and orders of the days `from` to `to`, from sums by day that begin at day `first`. */
function sumDays(byDay, first, from, to) {
  const sums = { revenue: 0, margin: 0, orders: 0 };
  for (let day = from; day <= to; day++) for (const name in sums) sums[name] += byDay[name][day - first];
  return sums;
}
