// @parse/node-apn, used as its page shows: one call a notification, `in_flight` of them at a time.
"use strict";

const fs = require("fs");
const readline = require("readline");
const path = require("path");

let apn, provider, notifications, setup;

function start(line) {
  setup = JSON.parse(line);
  apn = require(path.join(setup.node_modules, "@parse", "node-apn"));
  const address = new URL(setup.url);
  provider = new apn.Provider({
    token: { key: setup.key_file, keyId: setup.key_id, teamId: setup.team_id },
    address: address.hostname,
    port: Number(address.port),
    ca: fs.readFileSync(setup.ca_file),
    production: true,
  });
  notifications = fs
    .readFileSync(setup.workload, "utf-8")
    .trimEnd()
    .split("\n")
    .map((each) => JSON.parse(each));
  console.log("ready");
}

async function sendOne(each) {
  const notification = new apn.Notification();
  notification.topic = setup.topic;
  notification.id = each.id;
  notification.pushType = "alert";
  notification.priority = 10;
  notification.expiry = Math.floor(Date.now() / 1000) + 3600;
  notification.collapseId = each.collapse_id;
  notification.rawPayload = each.payload;
  return (await provider.send(notification, each.token)).sent.length;
}

async function send(line) {
  const [from, count] = line.split(" ").map(Number);
  const began = process.hrtime.bigint();
  let accepted = 0;
  let next = from;
  async function lane() {
    while (next < from + count) {
      const sent = await sendOne(notifications[next++]);
      accepted += sent;
    }
  }
  await Promise.all(Array.from({ length: setup.in_flight }, lane));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ accepted, seconds }));
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => (provider ? send(line) : start(line)));
lines.on("close", () => process.exit(0));
