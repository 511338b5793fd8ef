//! Cases of the broker seam.

pub(crate) mod delay;
pub(crate) mod find;
pub(crate) mod look;
pub(crate) mod restart;
pub(crate) mod settle;
pub(crate) mod take;

/// All cases of this seam.
macro_rules! cases {
    ($($of:tt)+) => {
        pub(crate) mod broker {
            crate::harness::cases!($($of)+, broker::take:
                what_is_published_is_taken_once_byte_for_byte
                older_messages_come_first
                higher_priorities_come_first
                priorities_mean_nothing_where_there_are_none
                queues_do_not_mix
                at_most_max_messages_are_taken
                taking_stops_with_the_message_that_reaches_the_byte_limit
                only_wanted_names_are_taken_and_others_wait_in_their_place
                where_names_do_not_select_whatever_comes_is_taken
                a_key_that_is_carried_is_published_once
                a_key_that_was_acknowledged_may_be_published_again
                takers_at_the_same_time_share_without_overlap
                a_mebibyte_comes_back_as_it_was
                ready_resolves_at_once_if_something_waits
                ready_resolves_when_something_is_published
                ready_resolves_when_a_wanted_name_is_published_behind_others
                dropping_ready_loses_nothing
            );
            crate::harness::cases!($($of)+, broker::settle:
                an_acknowledged_message_is_gone
                a_returned_message_keeps_its_place
                what_one_call_returns_comes_first_in_its_old_order
                a_returned_message_is_marked_as_redelivered
                a_message_returned_with_a_delay_waits_that_long
                ready_resolves_when_something_is_returned
                a_settled_receipt_is_void
                an_outdated_receipt_that_goes_unnoticed_harms_nobody
                a_receipt_of_an_earlier_delivery_is_void
                receipts_that_were_never_given_are_void
                each_item_has_its_own_answer
            );
            crate::harness::cases!($($of)+, broker::delay:
                a_delayed_message_is_taken_when_it_is_due_and_not_before
                what_is_due_already_is_taken_at_once
                age_counts_from_publishing_also_for_delayed_messages
                ready_resolves_when_something_becomes_due
                a_clock_stepped_forward_makes_messages_due
                a_clock_stepped_back_neither_loses_nor_hides_what_waits
            );
            crate::harness::cases!($($of)+, broker::look:
                what_waits_is_listed_in_the_order_of_taking
                delayed_messages_are_listed_last_by_time_if_asked_for
                held_messages_are_not_listed
                a_page_ends_at_its_limits
                pages_are_stable_while_messages_come_and_go
                looking_changes_nothing
                queues_in_which_anything_waits_are_listed_by_name
                depths_tell_what_waits_what_is_delayed_and_which_is_oldest
                what_is_no_position_is_refused
                bodies_are_recalled_wherever_they_stand
                a_discarded_message_is_gone_wherever_it_stood
            );
            crate::harness::cases!($($of)+, broker::find:
                the_messages_of_a_task_are_found_wherever_they_stand
                what_is_done_with_is_found_no_more
                messages_are_found_after_a_restart
            );
            crate::harness::cases!($($of)+, broker::restart:
                what_was_held_waits_again_after_a_restart_marked_as_redelivered
                what_was_acknowledged_stays_gone_after_a_restart
                delayed_messages_stay_delayed_over_a_restart
                keys_are_known_after_a_restart
                receipts_from_before_a_restart_are_void
            );
        }
    };
}
pub(crate) use cases;
