// The health check of MongoDB: initiates the replica set, creates the users, and fails unless the member takes writes.
// Each step is skipped if it is done already. MongoDB lets a client on its own machine do this until there is a user:
// https://www.mongodb.com/docs/manual/core/localhost-exception/
const { readFileSync } = require("fs");

const password = (name) => readFileSync(`/run/secrets/${name}_password`, "utf8").trim();
const admin = db.getSiblingDB("admin");

function login() {
  try {
    return admin.auth("root", password("root")).ok === 1;
  } catch (error) {
    if (error.codeName !== "AuthenticationFailed") throw error;
    return false; // no user yet
  }
}

function initiate() {
  try {
    rs.status();
  } catch (error) {
    if (error.codeName !== "NotYetInitialized") throw error;
    rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] });
  }
}

function isPrimary() {
  for (let waits = 0; waits < 50 && !db.hello().isWritablePrimary; waits++) sleep(100);
  return db.hello().isWritablePrimary;
}

function createUsers() {
  if (!loggedIn) {
    admin.createUser({ user: "root", pwd: password("root"), roles: ["root"] });
    login();
  }
  const roles = [
    { role: "readWrite", db: process.env.SNAPSHOTS_MONGO_DATABASE },
    { role: "clusterMonitor", db: "admin" }, // for the doctor
  ];
  const user = { pwd: password("snapshots"), roles };
  if (admin.getUser("snapshots")) admin.updateUser("snapshots", user);
  else admin.createUser({ user: "snapshots", ...user });
}

const loggedIn = login();
initiate();
if (!isPrimary()) quit(1);
createUsers();
