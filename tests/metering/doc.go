// Package metering tests the copies of counted units for OpenMeter.
package metering
