// Holds snapshots against the Mongoose schema of docs/mongoose, in strict mode: found, populated, validated, saved.
//
//   node check.mjs MONGO_URL DATABASE      exit code 0, and one line of JSON; 1 with the first fault
import mongoose from "mongoose";
import { messageSchema, trainingSnapshotSchema } from "./training-snapshot.mjs";

const { Schema } = mongoose;
const { ObjectId } = Schema.Types;
const person = { organizationId: ObjectId, firstName: String, lastName: String, email: String };

mongoose.model("User", new Schema(person, { collection: "users" }));
mongoose.model("Contact", new Schema({ ...person, phoneNumber: String, channelType: String }, { collection: "contacts" }));

messageSchema.set("strict", "throw"); // any field that the schema does not have
trainingSnapshotSchema.set("strict", "throw");
const TrainingSnapshot = mongoose.model("TrainingSnapshot", trainingSnapshotSchema);

const [url, database] = process.argv.slice(2);
await mongoose.connect(url, { dbName: database });
try {
  let checked = 0;
  for await (const found of TrainingSnapshot.find().populate("userId contactId").cursor()) {
    if (!found.contactId?._id) throw new Error(`${found.id}: its contact is not populated`);
    await found.validate();
    const raw = await TrainingSnapshot.collection.findOne({ _id: found._id });
    await new TrainingSnapshot(raw).validate();
    if (raw.__v !== 0) throw new Error(`${found.id}: __v is ${raw.__v}`);
    if (raw.messageCount !== raw.messages.length) throw new Error(`${found.id}: messageCount is ${raw.messageCount}`);
    found.notes = "Edited with Mongoose";
    await found.save();
    let refused = false;
    try {
      found.messages[0].content = "Another text";
      found.contentHash = "0";
      await found.save();
    } catch {
      refused = true;
    }
    const after = await TrainingSnapshot.collection.findOne({ _id: found._id });
    if (!refused || JSON.stringify(after.messages) !== JSON.stringify(raw.messages) || after.contentHash !== raw.contentHash)
      throw new Error(`${found.id}: what was captured could be changed`);
    if (after.notes !== "Edited with Mongoose") throw new Error(`${found.id}: its notes were not saved`);
    checked += 1;
  }
  if (!checked) throw new Error("there are no snapshots");
  console.log(JSON.stringify({ checked, mongoose: mongoose.version }));
} catch (error) {
  console.error(String(error));
  process.exitCode = 1;
} finally {
  await mongoose.disconnect();
}
