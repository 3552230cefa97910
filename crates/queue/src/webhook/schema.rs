//! The statements, by their names.

store::statements! { include_str!("../../sql/webhook.sql");
    WEBHOOKS = "webhooks",
    NEXT_WEBHOOK = "next_webhook",
    ADD = "add",
    REMOVE = "remove",
    SET_STATE = "set_state",
    BEGIN_ANEW = "begin_anew",
    ROTATE = "rotate",
    REPLAY = "replay",
    HOLD = "hold",
    IS_HELD = "is_held",
    LET_GO = "let_go",
    PROGRESS = "progress",
    WAITING = "waiting",
    WAIT = "wait",
    WAIT_NO_MORE = "wait_no_more",
    FORGET_WAITING = "forget_waiting",
    HURRY = "hurry",
}
