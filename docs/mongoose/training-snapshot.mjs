// Made by scripts/mongoose_types.py from the models of training-snapshots, checked by tests.
// Only notes, tags, quality, category and isArchived may be edited; the rest is immutable once it is captured.
import mongoose from "mongoose";

const { Schema } = mongoose;
const { ObjectId } = Schema.Types;

export const messageSchema = new Schema(
  {
    id: { type: String, required: true, immutable: true },
    content: { type: String, immutable: true },
    sender: { type: String, required: true, immutable: true },
    senderType: { type: String, required: true, immutable: true },
    timestamp: { type: Date, required: true, immutable: true },
  },
  { _id: false, id: false },
);

export const trainingSnapshotSchema = new Schema(
  {
    organizationId: { type: ObjectId, required: true, immutable: true },
    customerName: { type: String, immutable: true },
    customerPhone: { type: String, immutable: true },
    customerEmail: { type: String, immutable: true },
    messages: { type: [messageSchema], required: true, immutable: true },
    messageCount: { type: Number, required: true, immutable: true },
    snapshotDate: { type: Date, required: true, immutable: true },
    conversationStartDate: { type: Date, required: true, immutable: true },
    conversationEndDate: { type: Date, required: true, immutable: true },
    notes: { type: String },
    tags: { type: [String], required: true },
    quality: { type: String },
    category: { type: String },
    isArchived: { type: Boolean, required: true },
    requestId: { type: String, immutable: true },
    conversationId: { type: ObjectId, ref: "Conversation", immutable: true },
    trigger: { type: String, immutable: true },
    supersedes: { type: ObjectId, ref: "TrainingSnapshot", immutable: true },
    contentHash: { type: String, immutable: true },
    omittedMessageCount: { type: Number, immutable: true },
    redaction: { type: Object, immutable: true },
    erasedMentions: { type: Object, immutable: true },
    userId: { type: ObjectId, ref: "User", immutable: true },
    contactId: { type: ObjectId, ref: "Contact", required: true, immutable: true },
  },
  { collection: "trainingsnapshots", timestamps: true },
);
