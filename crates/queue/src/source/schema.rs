//! The statements, by their names.

store::statements! { include_str!("../../sql/source.sql");
    SOURCES = "sources",
    ADD_SOURCE = "add_source",
    NEXT_SOURCE = "next_source",
    LOCK = "lock",
    CHANGE_SOURCE = "change_source",
    REMOVE_SOURCE = "remove_source",
    POOLS = "pools",
    ADD_POOL = "add_pool",
    REMOVE_POOL = "remove_pool",
    MEMBERS = "members",
    ADD_MEMBER = "add_member",
    REMOVE_MEMBERS = "remove_members",
    SERVED = "served",
    SERVE = "serve",
    SERVE_NO_MORE = "serve_no_more",
    RULES = "rules",
    SET_RULE = "set_rule",
    UNSET_RULE = "unset_rule",
    FORGET_RULES = "forget_rules",
}
