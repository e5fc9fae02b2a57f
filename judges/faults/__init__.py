"""The whole delivery under faults, seeded and in virtual time, judged by the state of the CRM and the chat."""
