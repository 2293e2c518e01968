"use strict";
// Shows what the server tells in one stream of states. Data becomes text nodes, never markup.

const byId = (id) => document.getElementById(id);

function make(tag, className, ...inside) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...inside);
  return node;
}

function icon() {
  const image = make("img");
  image.src = "/static/icon.svg";
  image.alt = "";
  return image;
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

function age(seconds) {
  const minutes = Math.floor((Date.now() / 1000 - seconds) / 60);
  return minutes < 1 ? "now" : minutes < 60 ? `${minutes} min` : clockTime(seconds);
}

function again(node, className) {
  // Taking the class away and asking for the layout lets the animation begin anew.
  node.classList.remove(className);
  void node.offsetWidth;
  node.classList.add(className);
}

// --- the inbox ---

let knownMails = null;

function mailRow(mail) {
  const time = make("time", "", clockTime(mail.at));
  const sender = make("p", "sender", make("span", "", mail.sender), time);
  const words = make("div", "words", sender, make("p", "subject", mail.subject));
  const row = make("li", mail.read ? "read" : "unread", make("span", "dot"), words);
  if (!mail.read) {
    const button = make("button", "", "Mark read");
    button.type = "button";
    button.setAttribute("aria-label", `Mark read: ${mail.subject}`);
    button.addEventListener("click", () => {
      button.disabled = true;
      post("/read", { id: mail.id });
    });
    row.append(button);
  }
  if (knownMails !== null && !knownMails.has(mail.id)) row.classList.add("new");
  return row;
}

function showInbox(state) {
  byId("user-name").textContent = state.user.name;
  byId("address").textContent = state.user.address;
  byId("unread").textContent = state.unread > 0 ? String(state.unread) : "";
  byId("empty").hidden = state.inbox.length > 0;
  const shape = JSON.stringify(state.inbox);
  if (byId("inbox").dataset.shape === shape) return;
  byId("inbox").dataset.shape = shape;
  byId("inbox").replaceChildren(...state.inbox.map(mailRow));
  knownMails = new Set(state.inbox.map((mail) => mail.id));
}

// --- the phones ---

class Device {
  constructor() {
    this.lastNumber = null;
    this.clock = make("p", "clock");
    this.date = make("p", "date");
    this.notices = make("div", "notices");
    this.badge = make("span", "badge");
    this.badge.hidden = true;
    const dock = make("div", "dock", make("div", "app", icon(), this.badge));
    const glass = make("div", "glass", make("div", "island"), this.clock, this.date,
                       this.notices, dock);
    this.about = make("p", "about");
    this.took = make("p", "took");
    this.node = make("article", "device", make("div", "shell", glass), this.about, this.took);
  }

  show(phone) {
    this.about.textContent = phone.name;
    const fresh = this.lastNumber === null ? Infinity : this.lastNumber;
    this.lastNumber = phone.last;
    this.notices.replaceChildren(...phone.notices.map((notice) => this.notice(notice, fresh)));
    if (phone.notices.some((notice) => notice.number > fresh)) again(this.node, "ringing");
    this.showBadge(phone.badge);
    this.showTook(phone);
  }

  notice(notice, fresh) {
    const when = make("span", "age", age(notice.at));
    when.dataset.at = notice.at;
    const title = make("span", notice.verified ? "title verified" : "title", notice.title);
    if (notice.verified) title.title = "Encrypted to this phone, signed by the organization";
    const top = make("p", "top", title, when);
    const words = make("div", "words", top, make("p", "body", notice.body));
    return make("div", notice.number > fresh ? "notice new" : "notice", icon(), words);
  }

  showBadge(number) {
    const text = number > 999 ? "999+" : String(number);
    if (this.badge.textContent !== text) again(this.badge, "changed");
    this.badge.textContent = text;
    this.badge.hidden = number === 0;
  }

  showTook(phone) {
    const newest = phone.notices[0];
    const took = phone.state === "active" && newest ? newest.took : null;
    this.took.classList.toggle("fast", took !== null && took < 1);
    if (phone.state !== "active") this.took.textContent = phone.state;
    else if (!newest) this.took.textContent = "waiting for mail";
    else if (took === null) this.took.textContent = `rang at ${clockTime(newest.at)}`;
    else this.took.textContent = `rang after ${took.toFixed(2)} s`;
  }

  tick(now) {
    this.clock.textContent = clockTime(now.getTime() / 1000);
    this.date.textContent = now.toLocaleDateString("en-GB", { weekday: "long", day: "numeric",
                                                              month: "long" });
    for (const when of this.notices.querySelectorAll(".age")) {
      when.textContent = age(Number(when.dataset.at));
    }
  }
}

const devices = [];

function showPhones(state) {
  while (devices.length < state.phones.length) {
    const device = new Device();
    device.tick(new Date());
    devices.push(device);
    byId("phones").append(device.node);
  }
  state.phones.forEach((phone, index) => devices[index].show(phone));
}

setInterval(() => devices.forEach((device) => device.tick(new Date())), 1000);

// --- writing ---

function note(text, bad) {
  byId("note").textContent = text;
  byId("note").classList.toggle("bad", Boolean(bad));
}

async function post(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    return true;
  } catch {
    note("That did not work; is the lab still running?", true);
    return false;
  }
}

byId("compose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector(".primary");
  button.disabled = true;
  if (await post("/mails", { sender: form.sender.value, subject: form.subject.value })) {
    note("On its way");
    form.subject.value = "";
    again(document.querySelector(".road"), "running");
    setTimeout(() => note(""), 2000);
  }
  button.disabled = false;
});

function showSuggestions(suggestions) {
  byId("suggestions").replaceChildren(...suggestions.map((suggestion) => {
    const chip = make("button", "", suggestion.sender);
    chip.type = "button";
    chip.title = suggestion.subject;
    chip.addEventListener("click", () => {
      byId("sender").value = suggestion.sender;
      byId("subject").value = suggestion.subject;
      note("");
    });
    return chip;
  }));
}

// --- the stream ---

const stream = new EventSource("/events");
stream.addEventListener("hello", (event) => showSuggestions(JSON.parse(event.data)));
stream.addEventListener("state", (event) => {
  const state = JSON.parse(event.data);
  showInbox(state);
  showPhones(state);
});
stream.addEventListener("open", () => {
  byId("link").textContent = "connected";
  byId("link").classList.add("up");
});
stream.addEventListener("error", () => {
  byId("link").textContent = "reconnecting";
  byId("link").classList.remove("up");
});
