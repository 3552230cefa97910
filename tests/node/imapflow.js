// imapflow.js HOST PORT USER PASSWORD CERTIFICATE: a session as a webmail has it; prints what it saw as JSON.
const fs = require("fs");
const { ImapFlow } = require("imapflow");

const [host, port, user, pass, certificate] = process.argv.slice(2);
const connect = async () => {
  const client = new ImapFlow({
    host, port: Number(port), secure: true, auth: { user, pass }, logger: false, qresync: true,
    tls: { ca: fs.readFileSync(certificate) },
  });
  await client.connect();
  return client;
};
const text = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
};

(async () => {
  const said = {};
  const client = await connect();
  const other = await connect();
  const lock = await client.getMailboxLock("INBOX");
  said.exists = client.mailbox.exists;
  said.subjects = [];
  for await (const each of client.fetch("1:*", { envelope: true, bodyStructure: true, flags: true }))
    said.subjects.push(each.envelope.subject);
  await client.messageFlagsAdd("2", ["\\Flagged"]);
  said.flagged = await client.search({ flagged: true });
  said.downloaded = await text((await client.download("1", "1")).content);
  await client.mailboxCreate(["Archive", "2026"]);
  said.listed = (await client.list()).some((box) => box.path === "Archive/2026");
  said.moved = (await client.messageMove("3", "Archive/2026")).uidMap.size;
  said.left = (await client.status("INBOX", { messages: true })).messages;
  const heard = new Promise((resolve) => client.once("exists", () => resolve(true)));
  const idle = client.idle();
  said.appended = Boolean((await other.append("INBOX", "Subject: new\r\n\r\nHello.\r\n")).uid);
  said.heard = await Promise.race([heard, new Promise((resolve) => setTimeout(resolve, 10000, false))]);
  lock.release();
  await client.logout();
  await idle.catch(() => {});
  await other.logout();
  console.log(JSON.stringify(said));
})().catch((error) => { console.error(error); process.exit(1); });
