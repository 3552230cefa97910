// send.js HOST PORT USER PASSWORD CERTIFICATE: one message with an attachment, by nodemailer over TLS.
const fs = require("fs");
const nodemailer = require("nodemailer");

const [host, port, user, pass, certificate] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host, port: Number(port), secure: true, auth: { user, pass }, tls: { ca: fs.readFileSync(certificate) },
});

transport.sendMail({
  from: user, to: user, subject: "Ein Gruß — こんにちは", text: "Hello.", html: "<p>Hello.</p>",
  attachments: [{ filename: "naïve.txt", content: Buffer.alloc(200000, "x") }],
}).then((sent) => console.log(sent.response), (error) => { console.error(error); process.exit(1); });
